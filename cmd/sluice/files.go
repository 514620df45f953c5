package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"sluice/internal/client"
	"sluice/internal/platform/fault"
)

// types of files by their ending. The system's own list is not asked: it has types that the
// server does not take, of .yaml for one.
var types = map[string]string{
	".csv": "text/csv", ".jsonl": "application/jsonl", ".ndjson": "application/jsonl", ".json": "application/json", ".parquet": "application/vnd.apache.parquet",
	".arrow": "application/vnd.apache.arrow.file", ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
	".gz": "application/gzip", ".zst": "application/zstd", ".zip": "application/zip", ".sig": "application/json",
	".txt": "text/plain", ".tsv": "text/tab-separated-values", ".yaml": "text/plain", ".pbtxt": "text/plain",
}

// typeOf guesses a file's type by its name.
func typeOf(name string) string {
	return cmp.Or(types[strings.ToLower(filepath.Ext(name))], "application/octet-stream")
}

func (p *program) upload() *cobra.Command {
	var media, resume string
	cmd := &cobra.Command{
		Use: "upload FILE", Short: "Upload a file, and print the upload's id",
		Long: "Uploads a file, and goes on where it broke off. The server holds it to its SHA-256. After this program was stopped, --resume ID goes on.",
		Args: exactly(1, "a file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			u, err := p.send(cmd.Context(), args[0], media, resume)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(p.out, plain(u.ID))
			return err
		},
	}
	cmd.Flags().StringVar(&media, "type", "", "its content type; by the file's name without it")
	cmd.Flags().StringVar(&resume, "resume", "", "the id of an upload of the same file that broke off")
	return cmd
}

// send uploads a file, with a bar, or goes on with an upload of it.
func (p *program) send(ctx context.Context, path, media, resume string) (*client.Upload, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, usage{err}
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, usage{err}
	}
	if !info.Mode().IsRegular() {
		return nil, usagef("%s is no file that can be read twice", path)
	}
	name := filepath.Base(path)
	f := &client.File{Name: name, Type: cmp.Or(media, typeOf(name)), Content: file, Size: info.Size()}
	bar := p.bar(name, info.Size())
	defer bar.end()
	var u *client.Upload
	if resume == "" {
		u, err = p.client.Upload(ctx, f, bar.set)
	} else {
		u, err = p.client.Resume(ctx, f, resume, bar.set)
	}
	if u != nil && err != nil && client.Passing(err) {
		fmt.Fprintf(p.err, "\nsluice: go on with: sluice upload --resume %s %s\n", plain(u.ID), path)
	}
	if err == nil && u.State != "complete" {
		err = fault.New(fault.Conflict, "the upload %s is %s: begin another", u.ID, u.State)
	}
	return u, err
}

func (p *program) download() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use: "download PATH", Short: "Download what a path of the API has, such as /v1/predictions/ID/output",
		Args: exactly(1, "a path, such as the output_url of a prediction"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !strings.HasPrefix(args[0], "/") {
				return usagef("a path begins with /, got %q", args[0])
			}
			return p.fetch(cmd.Context(), args[0], out)
		},
	}
	cmd.Flags().StringVar(&out, "out", "-", "file to write; - is the standard output")
	return cmd
}

// writable says why nothing can be written to out: commands that have the server do much for
// a file ask before that. A file is made and removed, since only that tells.
func writable(out string) error {
	if out == "" || out == "-" {
		return nil
	}
	special, err := device(out)
	if err != nil || special {
		return err
	}
	part, err := partOf(out)
	if err != nil {
		return err
	}
	_ = part.Close() // nothing was written
	return os.Remove(part.Name())
}

// device reports whether out is there and no file, such as /dev/null or a pipe: it is written
// to, and not replaced. A folder is an error.
func device(out string) (bool, error) {
	info, err := os.Stat(out)
	if err == nil && info.IsDir() {
		return false, usagef("%s is a folder: name a file in it", out)
	}
	return err == nil && !info.Mode().IsRegular(), nil
}

// partOf makes a file that becomes out when it is whole.
func partOf(out string) (*os.File, error) {
	part, err := os.CreateTemp(filepath.Dir(out), "."+filepath.Base(out)+".part-*")
	if err != nil {
		return nil, usagef("%s cannot be written: %w", out, errors.Unwrap(err)) // without the part's own name
	}
	return part, nil
}

// fetch downloads into a file, which appears when it is whole, or to the standard
// output.
func (p *program) fetch(ctx context.Context, path, out string) error {
	bar := p.bar(filepath.Base(path), -1)
	defer bar.end()
	if out == "-" {
		return p.client.Download(ctx, path, p.out, bar.of)
	}
	special, err := device(out)
	if err != nil {
		return err
	}
	if special {
		file, err := os.OpenFile(out, os.O_WRONLY, 0)
		if err != nil {
			return usage{err}
		}
		return errors.Join(p.client.Download(ctx, path, file, bar.of), file.Close())
	}
	part, err := partOf(out)
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(part.Name()) }() // it is gone where all went well
	err = p.client.Download(ctx, path, part, bar.of)
	if err == nil {
		err = part.Sync()
	}
	if failed := part.Close(); err == nil {
		err = failed
	}
	if err != nil {
		return err
	}
	return os.Rename(part.Name(), out)
}
