package main

import (
	"bytes"
	"errors"
	"runtime"
	"unsafe"

	"github.com/ebitengine/purego"
)

// library has the functions of libchdb that the front calls (chdb.h).
type library struct {
	connect   func(argc int32, argv unsafe.Pointer) unsafe.Pointer
	query     func(conn, text unsafe.Pointer, size uintptr, format unsafe.Pointer, formatSize uintptr) unsafe.Pointer
	withNamed func(conn, text unsafe.Pointer, size uintptr, format unsafe.Pointer, formatSize uintptr, names, nameSizes, values, valueSizes unsafe.Pointer, n uintptr) unsafe.Pointer
	buffer    func(result unsafe.Pointer) unsafe.Pointer
	length    func(result unsafe.Pointer) uintptr
	problem   func(result unsafe.Pointer) unsafe.Pointer
	free      func(result unsafe.Pointer)
	signals   func(on bool)
}

// load opens libchdb. The Go runtime keeps its signal handlers.
func load(path string) (*library, error) {
	h, err := purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_GLOBAL)
	if err != nil {
		return nil, err
	}
	l := new(library)
	for name, f := range map[string]any{
		"chdb_connect": &l.connect, "chdb_query_n": &l.query, "chdb_query_with_params_n": &l.withNamed, "chdb_result_buffer": &l.buffer, "chdb_result_length": &l.length,
		"chdb_result_error": &l.problem, "chdb_destroy_query_result": &l.free, "chdb_set_signal_handlers_enabled": &l.signals,
	} {
		purego.RegisterLibFunc(f, h, name)
	}
	l.signals(false)
	return l, nil
}

// connection is one to the engine, for one query at a time. It keeps its settings
// and temporary tables.
type connection struct {
	*library
	handle unsafe.Pointer // to a pointer
}

// open opens a connection to the data in a folder.
func (l *library) open(folder string) (*connection, error) {
	var pin runtime.Pinner
	defer pin.Unpin()
	argv := make([]unsafe.Pointer, 0, 2)
	for _, arg := range []string{"clickhouse", "--path=" + folder} {
		argv = append(argv, text(&pin, arg))
	}
	pin.Pin(&argv[0])
	handle := l.connect(int32(len(argv)), unsafe.Pointer(&argv[0]))
	if handle == nil || *(*unsafe.Pointer)(handle) == nil {
		return nil, errors.New("the engine does not open " + folder + ": does another process have it?")
	}
	return &connection{l, handle}, nil
}

// text returns a C string that stays where it is until pin ends.
func text(pin *runtime.Pinner, s string) unsafe.Pointer {
	b := append([]byte(s), 0)
	pin.Pin(&b[0])
	return unsafe.Pointer(&b[0])
}

// run runs a statement and returns its result in a format. Errors have the texts of
// the engine, which begin with "Code: ".
func (c *connection) run(sql, format string, named map[string]string) ([]byte, error) {
	var pin runtime.Pinner
	defer pin.Unpin()
	conn := *(*unsafe.Pointer)(c.handle)
	query, as := text(&pin, sql), text(&pin, format)
	var result unsafe.Pointer
	if len(named) == 0 {
		result = c.query(conn, query, uintptr(len(sql)), as, uintptr(len(format)))
	} else {
		var names, values []unsafe.Pointer
		var nameSizes, valueSizes []uintptr
		for name, value := range named {
			names, nameSizes = append(names, text(&pin, name)), append(nameSizes, uintptr(len(name)))
			values, valueSizes = append(values, text(&pin, value)), append(valueSizes, uintptr(len(value)))
		}
		pin.Pin(&names[0])
		pin.Pin(&values[0])
		result = c.withNamed(conn, query, uintptr(len(sql)), as, uintptr(len(format)),
			unsafe.Pointer(&names[0]), unsafe.Pointer(&nameSizes[0]), unsafe.Pointer(&values[0]), unsafe.Pointer(&valueSizes[0]), uintptr(len(names)))
	}
	if result == nil {
		return nil, errors.New("Code: 1002. the engine returned nothing")
	}
	defer c.free(result)
	if p := c.problem(result); p != nil {
		return nil, errors.New(goText(p))
	}
	n := c.length(result)
	if n == 0 {
		return nil, nil
	}
	return bytes.Clone(unsafe.Slice((*byte)(c.buffer(result)), n)), nil
}

func goText(p unsafe.Pointer) string {
	n := 0
	for *(*byte)(unsafe.Add(p, n)) != 0 {
		n++
	}
	return string(unsafe.Slice((*byte)(p), n))
}
