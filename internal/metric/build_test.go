package metric

import (
	"cmp"
	"fmt"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/caly-dev/caly/internal/buildinfo"
)

func TestBuildInfo(t *testing.T) {
	build := buildinfo.Of("v1.2.3")
	want := fmt.Sprintf(`
		# HELP caly_build_info 1, with the version of the program, the revision of its source and the version of Go.
		# TYPE caly_build_info gauge
		caly_build_info{goversion=%q,revision=%q,version="v1.2.3"} 1
	`, build.Go, cmp.Or(build.Commit, "unknown"))
	if err := testutil.CollectAndCompare(NewBuildInfo("v1.2.3"), strings.NewReader(want)); err != nil {
		t.Error(err)
	}
}
