package audit

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"sluice/internal/platform/fault"
)

const verifyUsage = `usage: audit verify -key KEY [flags] FOLDER

Proves a copy of an audit log: nothing changed, missing, reordered or added.
KEY is a public key (name+id+key), or a file that holds one. Keep it, and the
checkpoints to compare with, where the operator of the log cannot change them.

`

// VerifyCommand is the command line of Verify: flags and a folder in args, the
// report on out. The error is nil only where the copy verifies.
func VerifyCommand(ctx context.Context, args []string, out io.Writer) error {
	var c verifyFlags
	flags := flag.NewFlagSet("audit verify", flag.ContinueOnError)
	flags.SetOutput(out)
	flags.Usage = func() { io.WriteString(out, verifyUsage); flags.PrintDefaults() }
	flags.Func("key", "public key of the log, or a file with it; repeat for rotated keys", c.key(&c.trust.Keys))
	flags.Func("witness", "public key of a witness, or a file with it; repeat for more", c.key(&c.trust.Witnesses))
	flags.IntVar(&c.trust.Quorum, "quorum", 0, "witnesses that must have cosigned; 0 means all")
	flags.Func("saved", "file with an earlier checkpoint; repeat for more", c.checkpoint)
	flags.StringVar(&c.save, "save", "", "file to put the checkpoint in if the copy verifies, for -saved of the next time")
	flags.BoolVar(&c.json, "json", false, "print the report as JSON")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return fault.Wrap(fault.Invalid, err, "audit verify")
	}
	if flags.NArg() != 1 || len(c.trust.Keys) == 0 {
		flags.Usage()
		return fault.New(fault.Invalid, "audit verify takes one folder and at least one -key")
	}
	return c.run(ctx, flags.Arg(0), out)
}

type verifyFlags struct {
	trust Trust
	save  string
	json  bool
}

func (c *verifyFlags) key(list *[]PublicKey) func(string) error {
	return func(value string) error {
		k, err := ParsePublicKey(value)
		if err != nil {
			text, readErr := os.ReadFile(value)
			if readErr != nil {
				return errors.Join(err, readErr)
			}
			if k, err = ParsePublicKey(string(text)); err != nil {
				return err
			}
		}
		*list = append(*list, k)
		return nil
	}
}

func (c *verifyFlags) checkpoint(path string) error {
	signed, err := os.ReadFile(path)
	c.trust.Saved = append(c.trust.Saved, signed)
	return err
}

func (c *verifyFlags) run(ctx context.Context, folder string, out io.Writer) error {
	report, err := Verify(ctx, os.DirFS(folder), c.trust)
	if err != nil {
		return err
	}
	if c.json {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		if err := enc.Encode(report); err != nil {
			return err
		}
	} else {
		report.write(out)
	}
	if !report.OK() {
		return fault.New(fault.Conflict, "the copy %s of the audit log does not verify: %d problems", folder, report.Found).WithCode("audit_not_verified")
	}
	return c.saveCheckpoint(folder, report)
}

// saveCheckpoint keeps what was verified, as a whole or not at all.
func (c *verifyFlags) saveCheckpoint(folder string, report *Report) error {
	if c.save == "" {
		return nil
	}
	signed, err := os.ReadFile(filepath.Join(folder, checkpointName))
	if err != nil {
		return err
	}
	// A log that is being written may have moved on since.
	if now, err := ParseCheckpoint(signed, c.trust.Keys...); err != nil || now.Size != report.Size || now.Root.String() != report.Root {
		return fault.New(fault.Conflict, "the checkpoint changed while it was verified: verify a copy that nobody writes to")
	}
	tmp := c.save + ".tmp"
	if err := os.WriteFile(tmp, signed, 0o644); err != nil { //nolint:gosec // the path is the operator's, as is the process
		return err
	}
	if err := os.Rename(tmp, c.save); err != nil {
		return fmt.Errorf("save the checkpoint: %w", err)
	}
	return nil
}
