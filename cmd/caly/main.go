// Command caly is all of Caly: operator, data plane, upload worker and tools.
package main

import (
	_ "time/tzdata" // the image has no time zones of its own

	"github.com/caly-dev/caly/cmd/internal/cli"
)

func main() { cli.Main(newRootCommand()) }
