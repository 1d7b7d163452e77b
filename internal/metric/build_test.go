package metric

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestBuildInfo(t *testing.T) {
	want := fmt.Sprintf(`
		# HELP caly_build_info 1, with the version of the program, the revision of its source and the version of Go.
		# TYPE caly_build_info gauge
		caly_build_info{goversion=%q,revision=%q,version="v1.2.3"} 1
	`, runtime.Version(), revision(debug.ReadBuildInfo()))
	if err := testutil.CollectAndCompare(NewBuildInfo("v1.2.3"), strings.NewReader(want)); err != nil {
		t.Error(err)
	}
}

func TestRevision(t *testing.T) {
	commit := debug.BuildSetting{Key: "vcs.revision", Value: "0a1b"}
	for name, tc := range map[string]struct {
		settings []debug.BuildSetting
		without  bool
		want     string
	}{
		"no build info": {without: true, want: "unknown"},
		"no commit":     {want: "unknown"},
		"a commit":      {settings: []debug.BuildSetting{commit, {Key: "vcs.modified", Value: "false"}}, want: "0a1b"},
		"and changes": {
			settings: []debug.BuildSetting{commit, {Key: "vcs.modified", Value: "true"}},
			want:     "0a1b-modified",
		},
	} {
		if got := revision(&debug.BuildInfo{Settings: tc.settings}, !tc.without); got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}
