package bounded

import (
	"bytes"
	"mime/multipart"
)

// maxPartHeader is how long the header of a part may be, in bytes. That of a field has a name and perhaps a type.
const maxPartHeader = 1 << 10

// Multipart returns a reader of a multipart body. ErrTooLarge means that the header of a part is longer than that of a
// field: mime and mime/multipart take twenty times the memory of a header that has many parameters.
func Multipart(body []byte, boundary string) (*multipart.Reader, error) {
	delimiter := []byte("--" + boundary)
	for rest := body; ; {
		i := bytes.Index(rest, delimiter)
		if i < 0 {
			return multipart.NewReader(bytes.NewReader(body), boundary), nil
		}
		rest = rest[i+len(delimiter):]
		if len(rest) <= maxPartHeader || bytes.HasPrefix(rest, []byte("--")) {
			continue
		}
		end := blankLine(rest[:maxPartHeader])
		if end < 0 {
			return nil, ErrTooLarge
		}
		rest = rest[end:]
	}
}

// blankLine returns where a header ends; -1 if it does not.
func blankLine(text []byte) int {
	for i := 0; ; {
		line := bytes.IndexByte(text[i:], '\n')
		if line < 0 {
			return -1
		}
		i += line + 1
		if next := bytes.TrimPrefix(text[i:], []byte("\r")); bytes.HasPrefix(next, []byte("\n")) {
			return i
		}
	}
}
