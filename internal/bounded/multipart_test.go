package bounded_test

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/caly-dev/caly/internal/bounded"
)

func TestMultipart(t *testing.T) {
	const field = "--b\r\nContent-Disposition: form-data; name=\"x\"\r\n\r\nvalue\r\n"
	long := strings.Repeat(";a=b", 1000)
	value := strings.Repeat("v", 5000)
	header := func(h string) string { return strings.Replace(field, `"x"`, `"x"`+h, 1) }
	for name, tc := range map[string]struct {
		body  string
		parts int
		err   error
	}{
		"fields":                       {field + field + "--b--\r\n", 2, nil},
		"a long value":                 {strings.Replace(field, "value", value, 1) + "--b--", 1, nil},
		"a long header":                {header(long) + "--b--\r\n", 0, bounded.ErrTooLarge},
		"in the second part":           {field + header(long) + "--b--\r\n", 0, bounded.ErrTooLarge},
		"in many lines":                {header(strings.Repeat("\r\nA: b", 1000)) + "--b--", 0, bounded.ErrTooLarge},
		"with line feeds alone":        {strings.ReplaceAll(header(long), "\r", "") + "--b--", 0, bounded.ErrTooLarge},
		"after what looks like an end": {"--b--x\r\n" + header(long) + "--b--\r\n", 0, bounded.ErrTooLarge},
		"without an end":               {field + "--b\r\nA: " + long, 0, bounded.ErrTooLarge},
		"a long epilogue":              {field + "--b--\r\n" + long, 1, nil},
		"a long preamble":              {long + "\r\n" + field + "--b--\r\n", 1, nil},
		"fields with line feeds":       {strings.ReplaceAll(field+field, "\r", "") + "--b--\n", 2, nil},
	} {
		t.Run(name, func(t *testing.T) {
			reader, err := bounded.Multipart([]byte(tc.body), "b")
			if !errors.Is(err, tc.err) {
				t.Fatalf("error %v, want %v", err, tc.err)
			}
			for n := 0; err == nil; n++ {
				if _, err = reader.NextRawPart(); err == nil {
					continue
				}
				if n != tc.parts || !errors.Is(err, io.EOF) {
					t.Errorf("%d parts, then %v; want %d", n, err, tc.parts)
				}
			}
		})
	}
}

// FuzzMultipart checks that no part of a body that is let through has a long header.
func FuzzMultipart(f *testing.F) {
	f.Add("--b\r\nContent-Disposition: form-data; name=x\r\n\r\n1\r\n--b--\r\n", "b", 0)
	f.Add("--b--x\n--b \t\n#\n\n", "b", 2000)
	f.Add("----\n----\n#", "--", 3000)
	f.Fuzz(func(t *testing.T, body, boundary string, long int) {
		body = strings.ReplaceAll(body, "#", "A: "+strings.Repeat("x", int(uint(long)%5000)))
		reader, err := bounded.Multipart([]byte(body), boundary)
		if err != nil {
			return
		}
		for {
			part, err := reader.NextRawPart()
			if err != nil {
				return
			}
			size := 0
			for name, values := range part.Header {
				for _, v := range values {
					size += len(name) + len(v)
				}
			}
			if size > 1024 {
				t.Fatalf("a header of %d bytes in %q", size, body)
			}
		}
	})
}
