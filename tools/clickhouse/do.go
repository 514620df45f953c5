package main

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"

	"golang.org/x/sys/unix"
)

var (
	identifier = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	insertion  = regexp.MustCompile(`(?is)^\s*INSERT\s+INTO\s+(?:TABLE\s+)?(.*?)\s+FORMAT\s+(\w+)`)
)

// do does what a request asks for, with its settings, which are the connection's
// only meanwhile.
func (c *connection) do(q *request) ([]byte, error) {
	if q.database != "" {
		if !identifier.MatchString(q.database) {
			return nil, fmt.Errorf("Code: 81. a database is not named %q", q.database)
		}
		if _, err := c.run("USE `"+q.database+"`", "Null", nil); err != nil {
			return nil, err
		}
	}
	for name := range q.settings {
		if !identifier.MatchString(name) {
			return nil, fmt.Errorf("Code: 115. a setting is not named %q", name)
		}
		defer func() { _, _ = c.run("SET "+name+" = DEFAULT", "Null", nil) }()
		if _, err := c.run("SET "+name+" = "+quote(q.settings.Get(name)), "Null", nil); err != nil {
			return nil, err
		}
	}
	if len(q.body) > 0 {
		return c.insert(q)
	}
	return c.run(q.sql, q.format, q.named)
}

func quote(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}

// insert hands the rows over as a file: the engine would take data that stands in
// the statement for a part of its text.
func (c *connection) insert(q *request) ([]byte, error) {
	m := insertion.FindStringSubmatch(q.sql)
	if m == nil {
		return nil, errors.New("Code: 62. there is a body, but the statement is no INSERT … FORMAT")
	}
	fd, err := unix.MemfdCreate("rows", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "rows")
	defer f.Close()
	if _, err := f.Write(q.body); err != nil {
		return nil, err
	}
	return c.run(fmt.Sprintf("INSERT INTO %s FROM INFILE '/proc/self/fd/%d' COMPRESSION 'none' FORMAT %s", m[1], fd, m[2]), "Null", q.named)
}
