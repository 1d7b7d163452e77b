package contentrange_test

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/internal/contentrange"
)

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"bytes 0-9/10", "bytes 5-9/*", "bytes 9-5/10", "bytes -1-2/3", "bytes 0-0/0", "bytes +1-2/3", "items 0-9/10",
		"bytes 99999999999999999999-1/2",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		first, last, total, err := contentrange.Parse(s)
		if err != nil {
			return
		}
		if first < 0 || last < first || total != -1 && total <= last {
			t.Errorf("%q was read as %d-%d/%d", s, first, last, total)
		}
		whole := "*"
		if total >= 0 {
			whole = strconv.FormatInt(total, 10)
		}
		a, b, c, err := contentrange.Parse(fmt.Sprintf("bytes %d-%d/%s", first, last, whole))
		if d := cmp.Diff([]int64{first, last, total}, []int64{a, b, c}); err != nil || d != "" {
			t.Errorf("%q does not survive: %v %s", s, err, d)
		}
	})
}
