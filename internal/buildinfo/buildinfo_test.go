package buildinfo

import (
	"runtime"
	"runtime/debug"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestOf(t *testing.T) {
	settings := func(pairs ...string) func() (*debug.BuildInfo, bool) {
		build := &debug.BuildInfo{}
		for i := 0; i < len(pairs); i += 2 {
			build.Settings = append(build.Settings, debug.BuildSetting{Key: pairs[i], Value: pairs[i+1]})
		}
		return func() (*debug.BuildInfo, bool) { return build, true }
	}
	for name, tc := range map[string]struct {
		read     func() (*debug.BuildInfo, bool)
		want     Info
		wantText string
	}{
		"no information": {
			read:     func() (*debug.BuildInfo, bool) { return nil, false },
			want:     Info{Version: "v1", Go: runtime.Version()},
			wantText: "v1, " + runtime.Version(),
		},
		"a build outside of a repository": {
			read:     settings("-trimpath", "true"),
			want:     Info{Version: "v1", Go: runtime.Version()},
			wantText: "v1, " + runtime.Version(),
		},
		"a commit": {
			read:     settings("vcs.revision", "abc", "vcs.time", "2026-01-31T10:00:00Z", "vcs.modified", "false"),
			want:     Info{Version: "v1", Commit: "abc", Date: "2026-01-31T10:00:00Z", Go: runtime.Version()},
			wantText: "v1, commit abc of 2026-01-31T10:00:00Z, " + runtime.Version(),
		},
		"a changed source": {
			read:     settings("vcs.modified", "true", "vcs.revision", "abc"),
			want:     Info{Version: "v1", Commit: "abc-modified", Go: runtime.Version()},
			wantText: "v1, commit abc-modified, " + runtime.Version(),
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := of("v1", tc.read)
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("build (-want +got):\n%s", diff)
			}
			if got.String() != tc.wantText {
				t.Errorf("it says %q, want %q", got, tc.wantText)
			}
		})
	}
}

// TestLinked verifies that what was linked in holds, unless the build has seen the repository itself.
func TestLinked(t *testing.T) {
	commit, date = "abc", "2026-01-31T10:00:00Z"
	t.Cleanup(func() { commit, date = "", "" })
	outside := func() (*debug.BuildInfo, bool) { return &debug.BuildInfo{}, true }
	if got := of("v1", outside); got.Commit != "abc" || got.Date != "2026-01-31T10:00:00Z" {
		t.Errorf("outside of a repository: %+v", got)
	}
	inside := func() (*debug.BuildInfo, bool) {
		return &debug.BuildInfo{Settings: []debug.BuildSetting{{Key: "vcs.revision", Value: "def"}}}, true
	}
	if got := of("v1", inside); got.Commit != "def" {
		t.Errorf("in a repository: %+v", got)
	}
}
