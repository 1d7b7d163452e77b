// Command caly is all of Caly: operator, data plane, upload worker and tools.
package main

import (
	"os"
	_ "time/tzdata" // the image has no time zones of its own

	"github.com/caly-dev/caly/cmd/internal/cli"
	"github.com/caly-dev/caly/cmd/internal/kubectl"
	"github.com/caly-dev/caly/internal/buildinfo"
)

func main() {
	if kubectl.IsPlugin(os.Args[0]) {
		cli.Main(kubectl.NewPlugin(buildinfo.Of(version)))
		return
	}
	cli.Main(newRootCommand())
}
