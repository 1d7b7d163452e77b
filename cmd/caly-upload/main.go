// Command caly-upload is "caly upload" alone, for upload pods: without the Kubernetes libraries a pod takes half the memory
// and starts in half the time, and there may be thousands of them.
package main

import (
	"os"
	"runtime"
	"runtime/debug"

	"github.com/caly-dev/caly/cmd/internal/cli"
)

// version is set when a release is linked.
var version = "dev"

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50) // little is allocated; memory is what a pod is paid for
	}
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(
			1,
		) // one core moves some 300 MB/s; a second one mostly wakes the first up, at 5 to 10 % more CPU a file
	}
	cmd := cli.NewUploadCommand(version)
	cmd.Use = "caly-upload"
	cli.Main(cmd)
}
