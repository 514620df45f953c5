// Command worker will run durable predictions and batch jobs taken from the
// queue. There is no queue yet, so it says so and exits with an error: a
// process that idles would look like one that works.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "worker: there is no durable queue to take work from yet; bin/api serves everything in one process")
	os.Exit(1)
}
