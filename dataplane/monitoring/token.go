package monitoring

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"

	"github.com/caly-dev/caly/dataplane/problem"
)

// maxToken bounds what is read of a token's file, and a token, in bytes.
const maxToken = 4 << 10

// MinToken is the shortest token that is accepted, in bytes. A shorter one can be guessed.
const MinToken = 16

// Public lets those through to a handler who have the operator's token. While there is none, nothing is there.
type Public struct {
	file *tokenFile
	next http.HandlerFunc
}

// NewPublic guards a handler by the token in a file, which is read again whenever it changes. A path of "" means no token.
// A token that is not accepted is logged at once.
func NewPublic(path string, next *Handler, log *slog.Logger) *Public {
	public := &Public{&tokenFile{path: path, log: log}, next.serveAuthenticated}
	public.file.digest()
	return public
}

// ServeHTTP answers 404 without a configured token, and 401 to any other than that.
func (p *Public) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := w.Header().Get("X-Request-Id")
	want, configured := p.file.digest()
	scheme, raw, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	got := sha256.Sum256([]byte(strings.TrimSpace(raw)))
	switch {
	case !configured:
		problem.New(problem.NotFound, "the path does not exist").Write(w, id)
	case !strings.EqualFold(scheme, "Bearer"):
		problem.New(problem.Authentication,
			"the operator's token is missing").
			WithHeader("WWW-Authenticate", `Bearer realm="caly-operator"`).Write(w, id)
	case subtle.ConstantTimeCompare(want[:], got[:]) != 1:
		problem.New(problem.InvalidToken, "the operator's token is wrong").
			WithHeader("WWW-Authenticate", `Bearer realm="caly-operator", error="invalid_token"`).Write(w, id)
	default:
		p.next(w, r)
	}
}

// tokenFile is a token in a file that may be replaced at any time, as a mounted Secret is. Only the token's digest is kept.
type tokenFile struct {
	path string
	log  *slog.Logger

	mu   sync.Mutex
	last os.FileInfo // what the rest was read from; nil: nothing
	sum  [sha256.Size]byte
	has  bool
	told bool // that there is none
}

// digest of the token that is in force now; false: none is.
func (f *tokenFile) digest() ([sha256.Size]byte, bool) {
	if f.path == "" {
		return [sha256.Size]byte{}, false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	info, err := os.Stat(f.path)
	if err != nil {
		f.forget(err)
		return f.sum, f.has
	}
	if f.last == nil || !os.SameFile(info, f.last) || !info.ModTime().Equal(f.last.ModTime()) ||
		info.Size() != f.last.Size() {
		f.read(info)
	}
	return f.sum, f.has
}

func (f *tokenFile) read(info os.FileInfo) {
	text, err := readSome(f.path)
	token := bytes.TrimSpace(text)
	switch {
	case err != nil:
	case len(text) > maxToken:
		err = fmt.Errorf("the token is longer than %d bytes; make a shorter one", maxToken)
	case len(token) < MinToken:
		err = fmt.Errorf(
			"the token has %d bytes and needs at least %d; make a longer one at random", len(token), MinToken,
		)
	}
	if err != nil {
		f.forget(err)
	} else {
		f.sum = sha256.Sum256(token)
		f.has = true
		f.told = false
	}
	f.last = info
}

// forget the token. Only the first time is logged: anybody may ask as often as they like.
func (f *tokenFile) forget(err error) {
	if !f.told {
		f.log.Warn("there is no operator's token that can be read: monitoring is closed to the outside",
			"file", f.path,
			"error", err,
		)
	}
	f.last = nil
	f.sum = [sha256.Size]byte{}
	f.has = false
	f.told = true
}

func readSome(path string) ([]byte, error) {
	file, err := os.Open(path) //nolint:gosec // the path is a flag's
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	return io.ReadAll(io.LimitReader(file, maxToken+1))
}
