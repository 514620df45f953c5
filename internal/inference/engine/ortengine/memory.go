package ortengine

/*
#include <stdlib.h>

static void *aligned(size_t size) {
	void *p = NULL;
	return posix_memalign(&p, 64, size) == 0 ? p : NULL;
}
*/
import "C"

import (
	"unsafe"

	"sluice/internal/inference/tensor"
	"sluice/internal/platform/fault"
)

const (
	// eagerBlock is the most memory that an input or output is given before its
	// rows are seen.
	eagerBlock = 4 << 20
	// keptBlock is the most memory that an input or output keeps between runs,
	// and bigRun the bytes of a run from which on the runtime, too, is asked to
	// give its working memory back: one large request must not cost its memory
	// for ever.
	keptBlock = 64 << 20
	bigRun    = 64 << 20
	// maxOutput bounds what the outputs of one run may take, where their shapes
	// are known before it: small inputs can ask for any amount of them.
	maxOutput = 1 << 30
)

// resize makes the block hold size bytes of C memory, aligned to a cache line;
// what it held is lost. Where there is no memory the block is empty.
func resize(block *[]byte, size int) error {
	free(block)
	p := C.aligned(C.size_t(max(size, 1)))
	if p == nil {
		return fault.New(fault.TooLarge, "a run of this size needs %d bytes of memory, which the machine does not have: send fewer or smaller rows", size)
	}
	*block = unsafe.Slice((*byte)(p), max(size, 1))
	return nil
}

func free(block *[]byte) {
	if len(*block) > 0 {
		C.free(unsafe.Pointer(&(*block)[0]))
	}
	*block = nil
}

// checkOutputs refuses a run whose outputs would be too large.
func (l *slot) checkOutputs() error {
	total := int64(0)
	for o, p := range l.s.sig.Outputs {
		if !l.s.shapes.resolvable(o) || p.Datatype == tensor.Bytes {
			continue
		}
		l.shape = l.s.shapes.appendShape(l.shape[:0], o, l.shapes)
		size, err := tensor.ByteSize(p.Datatype, l.shape)
		if err != nil || size > maxOutput-total {
			return fault.New(fault.TooLarge, "output %q of model %q would have shape %s; the outputs of one run may take %d bytes: send fewer or smaller rows",
				p.Name, l.s.name, l.shape, maxOutput)
		}
		total += size
	}
	return nil
}

// shed gives back what a large run left behind: blocks beyond what is kept,
// and strings, which hold clients' data in memory of the runtime's.
func (l *slot) shed(b *binding) {
	for i := range l.inputs {
		if len(l.inputs[i]) > keptBlock || (b.strings > keptStrings && l.s.sig.Inputs[i].Datatype == tensor.Bytes) {
			l.dropBindings()
			free(&l.inputs[i])
		}
	}
	for o := range l.outputs {
		if len(l.outputs[o]) > keptBlock {
			l.dropBindings()
			free(&l.outputs[o])
		}
	}
}

// keptStrings is the most bytes of strings that a binding keeps between runs.
const keptStrings = 64 << 10
