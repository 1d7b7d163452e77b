package upload

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"

	"github.com/caly-dev/caly/internal/objectstore"
)

// digest passes a recording on and takes its length and digests on the way, in the reader's own buffer.
type digest struct {
	r   io.Reader
	md5 *lane
	sha hash.Hash
	// parts is the ETag of an upload in parts; nil when none is to be expected.
	parts *objectstore.PartETag
	n     int64
	limit int64
	ended bool
	// err is the source's error, sticky.
	err error
}

// newDigest reads at most limit bytes of r. It must be closed.
func newDigest(g *lanes, r io.Reader, limit int64, parts bool) *digest {
	d := &digest{r: r, md5: g.lane(), sha: sha256.New(), limit: limit}
	if parts {
		d.parts = objectstore.NewPartETag()
	}
	return d
}

// Read never returns the last bytes together with a fault of the source.
func (d *digest) Read(p []byte) (int, error) {
	if d.err != nil {
		return 0, d.err
	}
	if d.ended {
		return 0, io.EOF
	}
	n, err := d.r.Read(p)
	if d.n += int64(n); d.n > d.limit {
		d.err = tooLarge(d.limit)
		return 0, d.err
	}
	_, _ = d.md5.Write(p[:n]) // no hash ever fails
	_, _ = d.sha.Write(p[:n])
	if d.parts != nil {
		_, _ = d.parts.Write(p[:n])
	}
	if errors.Is(err, io.EOF) {
		d.ended = true
	} else if err != nil {
		d.err = err
	}
	return n, err
}

// close gives the lane back. No Read may be under way, and none may follow.
func (d *digest) close() { d.md5.close() }

// sums are the digests of a recording that was read to its end.
type sums struct {
	size        int64
	md5, sha256 string
	multipart   string // ETag of an upload in parts, if it was computed
}

// complete tells whether everything was read. A sender that knows the length (size >= 0) need not ask for the end.
func (d *digest) complete(size int64) bool { return d.ended || size >= 0 && d.n == size }

func (d *digest) sums() sums {
	s := sums{size: d.n, md5: hex.EncodeToString(d.md5.sum()), sha256: hex.EncodeToString(d.sha.Sum(nil))}
	if d.parts != nil {
		s.multipart = d.parts.ETag()
	}
	return s
}

// matches tells whether a store's ETag is that of these bytes. false proves nothing: a store that encrypts with keys of
// its own has other ETags.
func (s sums) matches(etag string) bool {
	return etag == s.md5 || s.multipart != "" && etag == s.multipart
}
