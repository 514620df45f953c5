package ortengine

/*
#define _GNU_SOURCE
#include <dlfcn.h>
#include <link.h>
#include <signal.h>
#include <stdlib.h>
#include <stdint.h>
#include <ucontext.h>

static struct sigaction previous;
static uintptr_t text_start, text_end; // of the runtime's code

// A processor of this kind raises an exception where a signed division
// overflows: the least integer by -1. The runtime guards its integer kernels
// against zero, not against this, so one request could end the process.
// idiv_length returns the length of the division at p, or 0 where there is
// none: optional REX, F7 /7, operand (Intel SDM, volume 2, "IDIV").
static int idiv_length(const unsigned char *p) {
	const unsigned char *start = p;
	if ((*p & 0xf0) == 0x40) p++;
	if (*p++ != 0xf7) return 0;
	unsigned char modrm = *p++, mod = modrm >> 6, rm = modrm & 7;
	if (((modrm >> 3) & 7) != 7) return 0;
	if (mod != 3 && rm == 4) {
		unsigned char base = *p++ & 7;
		if (mod == 0 && base == 5) p += 4;
	} else if (mod == 0 && rm == 5) {
		p += 4;
	}
	if (mod == 1) p += 1;
	if (mod == 2) p += 4;
	return (int)(p - start);
}

// on_division lets an overflowing division of the runtime wrap, as it does on
// other processors: the quotient is the dividend, which is in place already,
// and nothing remains. All else goes to whoever handled the signal before.
static void on_division(int number, siginfo_t *info, void *context) {
	greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
	uintptr_t at = (uintptr_t)registers[REG_RIP];
	if (at >= text_start && at < text_end) {
		int length = idiv_length((const unsigned char *)at);
		if (length > 0) {
			registers[REG_RDX] = 0;
			registers[REG_RIP] += length;
			return;
		}
	}
	if (previous.sa_flags & SA_SIGINFO) {
		previous.sa_sigaction(number, info, context);
	} else {
		signal(number, SIG_DFL);
		raise(number);
	}
}

static int find_text(struct dl_phdr_info *object, size_t size, void *symbol) {
	(void)size;
	for (int i = 0; i < object->dlpi_phnum; i++) {
		const ElfW(Phdr) *h = &object->dlpi_phdr[i];
		uintptr_t start = object->dlpi_addr + h->p_vaddr, end = start + h->p_memsz;
		if (h->p_type == PT_LOAD && (h->p_flags & PF_X) && (uintptr_t)symbol >= start && (uintptr_t)symbol < end) {
			text_start = start;
			text_end = end;
			return 1;
		}
	}
	return 0;
}

// contain_division installs the handler. The Go runtime's own handler stays
// behind it and gets every signal that is not the runtime library's.
static int contain_division(const char *library) {
	void *handle = dlopen(library, RTLD_LAZY);
	void *symbol = handle == NULL ? NULL : dlsym(handle, "OrtGetApiBase");
	if (symbol == NULL || !dl_iterate_phdr(find_text, symbol)) return 1;
	struct sigaction action = {.sa_sigaction = on_division, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART};
	sigfillset(&action.sa_mask);
	return sigaction(SIGFPE, &action, &previous);
}
*/
import "C"

import (
	"unsafe"

	"sluice/internal/platform/fault"
)

// containDivision makes integer divisions that overflow inside of the runtime
// library wrap instead of ending the process; see decision 0008.
func containDivision(library string) error {
	path := C.CString(library)
	defer C.free(unsafe.Pointer(path))
	if C.contain_division(path) != 0 {
		return fault.New(fault.Internal, "cannot contain overflowing divisions of the ONNX Runtime library %s", library)
	}
	return nil
}
