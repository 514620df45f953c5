package ortengine

/*
#cgo LDFLAGS: -ldl
#include <dlfcn.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

// The wrapper fills string tensors from NUL-terminated C strings, which would
// cut a BYTES element at its first zero byte. The runtime's C API has a
// function that takes a length. Its API is a table of function pointers that
// only ever grows at its end, so a function's place in it is part of its ABI.
typedef struct { const void **(*get_api)(uint32_t); const char *(*version)(void); } api_base;
typedef void *(*resized_element_fn)(void *value, size_t index, size_t length, char **buffer);
typedef void (*release_status_fn)(void *status);

enum { api_version = 29, release_status_slot = 93, resized_element_slot = 252 };

static resized_element_fn resized_element;
static release_status_fn release_status;

static int load_string_api(const char *library) {
	void *handle = dlopen(library, RTLD_LAZY);
	if (handle == NULL) return 1;
	const api_base *(*base)(void) = (const api_base *(*)(void))dlsym(handle, "OrtGetApiBase");
	if (base == NULL) return 2;
	const void **api = base()->get_api(api_version);
	if (api == NULL) return 3;
	resized_element = (resized_element_fn)api[resized_element_slot];
	release_status = (release_status_fn)api[release_status_slot];
	return 0;
}

// set_strings fills a string tensor from length-prefixed elements, the wire
// form of BYTES. It returns how many elements it wrote, or -1 - index where
// the runtime refused one.
static int64_t set_strings(void *value, int64_t first, const char *data, size_t size) {
	int64_t n = 0;
	while (size >= 4) {
		uint32_t length;
		memcpy(&length, data, 4);
		if (length > size - 4) return -1 - n;
		char *buffer = NULL;
		void *status = resized_element(value, (size_t)(first + n), length, &buffer);
		if (status != NULL) {
			release_status(status);
			return -1 - n;
		}
		if (length > 0) memcpy(buffer, data + 4, length);
		data += 4 + (size_t)length;
		size -= 4 + (size_t)length;
		n++;
	}
	return n;
}
*/
import "C"

import (
	"unsafe"

	ort "github.com/yalue/onnxruntime_go"

	"sluice/internal/platform/fault"
)

func loadStringAPI(library string) error {
	path := C.CString(library)
	defer C.free(unsafe.Pointer(path))
	if code := C.load_string_api(path); code != 0 {
		return fault.New(fault.Unavailable, "the ONNX Runtime library %s does not offer version %d of its C API (step %d): use version 1.29 or newer",
			library, C.api_version, code)
	}
	return nil
}

// setStrings writes BYTES data into t from element first on and returns the
// number of elements written.
func setStrings(t *ort.StringTensor, first int64, data []byte) (int64, error) {
	if len(data) == 0 {
		return 0, nil
	}
	n := int64(C.set_strings(valueOf(t), C.int64_t(first), (*C.char)(unsafe.Pointer(&data[0])), C.size_t(len(data))))
	if n < 0 {
		return 0, fault.New(fault.Internal, "the runtime refused string element %d", first-1-n)
	}
	return n, nil
}

// valueOf returns the runtime's value behind a wrapper value. The wrapper
// keeps it in the only field of a struct that it does not export.
func valueOf(v ort.Value) unsafe.Pointer {
	return *(*unsafe.Pointer)(unsafe.Pointer(v.GetInternals()))
}
