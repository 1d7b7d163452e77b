// Package contentrange reads the header of an answer that has a part of a resource.
package contentrange

import (
	"errors"
	"strconv"
	"strings"
)

var errUnreadable = errors.New("its Content-Range cannot be read")

// Parse reads "bytes first-last/total", the value of a Content-Range header. total is -1 for "*".
func Parse(value string) (first, last, total int64, err error) {
	rest, ok := strings.CutPrefix(value, "bytes ")
	span, whole, ok2 := strings.Cut(rest, "/")
	a, z, ok3 := strings.Cut(span, "-")
	if !ok || !ok2 || !ok3 {
		return 0, 0, 0, errUnreadable
	}
	numbers := []*int64{&first, &last, &total}
	for i, text := range []string{a, z, whole} {
		if i == 2 && text == "*" {
			total = -1
			continue
		}
		n, err := strconv.ParseUint(text, 10, 63)
		if err != nil {
			return 0, 0, 0, errUnreadable
		}
		*numbers[i] = int64(n)
	}
	if last < first || total >= 0 && last >= total {
		return 0, 0, 0, errUnreadable
	}
	return first, last, total, nil
}
