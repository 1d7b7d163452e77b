// Package buildinfo says which source a program was built from.
package buildinfo

import (
	"runtime"
	"runtime/debug"
)

// Info is the version of a program and of its source.
type Info struct {
	Version string `json:"version"`
	// Commit and Date are of the source; empty if the build did not record them. Commit ends in -modified if the source
	// had changes that were not committed.
	Commit string `json:"commit,omitempty"`
	Date   string `json:"date,omitempty"`
	Go     string `json:"go"`
}

// commit and date are set when a release is linked whose build sees no repository, such as that of the Dockerfile.
var commit, date string

// Of returns what the build of this program recorded, with its version.
func Of(version string) Info { return of(version, debug.ReadBuildInfo) }

func of(version string, read func() (*debug.BuildInfo, bool)) Info {
	info := Info{Version: version, Commit: commit, Date: date, Go: runtime.Version()}
	build, ok := read()
	if !ok {
		return info
	}
	modified := false
	for _, setting := range build.Settings {
		switch setting.Key {
		case "vcs.revision":
			info.Commit = setting.Value
		case "vcs.time":
			info.Date = setting.Value
		case "vcs.modified":
			modified = setting.Value == "true"
		}
	}
	if info.Commit != "" && modified {
		info.Commit += "-modified"
	}
	return info
}

// String returns the version, the commit, its date and the version of Go in one line.
func (i Info) String() string {
	text := i.Version
	if i.Commit != "" {
		text += ", commit " + i.Commit
	}
	if i.Date != "" {
		text += " of " + i.Date
	}
	return text + ", " + i.Go
}
