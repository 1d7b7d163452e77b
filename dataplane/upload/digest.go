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
	r io.Reader
	// md5 is nil if no MD5 is needed.
	md5 *lane
	sha hash.Hash
	// parts is the ETag of an upload in parts; nil when none is to be expected.
	parts *objectstore.PartETag
	n     int64
	limit int64
	ended bool
	// known are the digests, once they were asked for.
	known *objectstore.Sums
	// err is the source's error, sticky.
	err error
}

// newDigest reads at most limit bytes of r. It takes no MD5 without lanes. It must be closed.
func newDigest(g *lanes, r io.Reader, limit int64, parts bool) *digest {
	d := &digest{r: r, sha: sha256.New(), limit: limit}
	if g != nil {
		d.md5 = g.lane()
	}
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
	_, _ = d.sha.Write(p[:n]) // no hash ever fails
	if d.md5 != nil {
		_, _ = d.md5.Write(p[:n])
	}
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
func (d *digest) close() {
	if d.md5 != nil {
		d.md5.close()
	}
}

// sums are the digests of a recording that was read to its end. Those that were not computed are empty.
type sums struct {
	size        int64
	md5, sha256 string
	multipart   string // ETag of an upload in parts
}

// complete tells whether everything was read. A sender that knows the length (size >= 0) need not ask for the end.
func (d *digest) complete(size int64) bool { return d.ended || size >= 0 && d.n == size }

// sums returns the digests of all bytes so far, with the ETag of an upload in parts if there were parts.
func (d *digest) sums() sums {
	raw := d.whole()
	s := sums{size: d.n, md5: hex.EncodeToString(raw.MD5), sha256: hex.EncodeToString(raw.SHA256)}
	if d.parts != nil {
		s.multipart = d.parts.ETag()
	}
	return s
}

// whole returns the digests that go along with the object. Nothing may be read after it.
func (d *digest) whole() objectstore.Sums {
	if d.known == nil {
		d.known = &objectstore.Sums{SHA256: d.sha.Sum(nil)}
		if d.md5 != nil {
			d.known.MD5 = d.md5.sum()
		}
	}
	return *d.known
}

// matches tells whether a store's ETag is that of these bytes. false proves nothing: a store that encrypts with keys of
// its own has other ETags.
func (s sums) matches(etag string) bool {
	return etag != "" && (etag == s.md5 || etag == s.multipart)
}
