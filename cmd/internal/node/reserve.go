package node

import (
	"context"
	"os"
	"path/filepath"

	"sluice/internal/platform/fault"
)

// reserve takes a folder of data_dir for this process, until it ends in whatever
// way: two servers on the files of one queue would destroy them.
func (n *Node) reserve(folder string) error {
	path := filepath.Join(n.cfg.DataDir, folder+".lock")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fault.Wrap(fault.Internal, err, "the lock %s cannot be made", path)
	}
	if err := lockFile(f); err != nil {
		f.Close()
		return fault.Wrap(fault.Conflict, err, "another process uses data_dir=%s: stop it, give this one another folder, or let both use servers with database.url and nats.url", n.cfg.DataDir).
			WithCode("data_dir_in_use")
	}
	n.closers = append(n.closers, func(context.Context) error { return f.Close() })
	return nil
}
