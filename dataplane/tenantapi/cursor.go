package tenantapi

import (
	"encoding/base64"
	"strconv"
	"strings"
	"time"

	"github.com/caly-dev/caly/internal/store"
)

// maxMicros is the end of the year 9999, as far as times can be written in JSON.
const maxMicros = 253402300799_999999

// formatCursor writes a place in a list: microseconds, which is PostgreSQL's precision, and the id. A cursor is not a
// secret: an invented one returns a page of the caller's own tenant.
func formatCursor(p store.Position) string {
	return base64.RawURLEncoding.EncodeToString([]byte(strconv.FormatInt(p.At.UnixMicro(), 10) + "|" + p.ID))
}

// parseCursor reads what formatCursor wrote, and nothing else.
func parseCursor(s string) (store.Position, bool) {
	text, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil {
		return store.Position{}, false
	}
	micros, id, _ := strings.Cut(string(text), "|")
	at, err := strconv.ParseInt(micros, 10, 64)
	if err != nil || at < 0 || at > maxMicros || !plain(id) {
		return store.Position{}, false
	}
	position := store.Position{At: time.UnixMicro(at).UTC(), ID: id}
	return position, formatCursor(position) == s
}

// plain reports whether id is printable ASCII without spaces, and at most as long as an email.
func plain(id string) bool {
	return id != "" && len(id) <= 254 && strings.IndexFunc(id, func(r rune) bool { return r <= ' ' || r > '~' }) < 0
}
