package ortengine

/*
#include <malloc.h>
*/
import "C"

// trim hands freed memory back to the system. The C library keeps what a
// closed session frees for its own later use; after a model swap that is
// memory which nothing will ask for again.
func trim() { C.malloc_trim(0) }
