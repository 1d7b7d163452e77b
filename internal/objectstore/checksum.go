package objectstore

import (
	"bytes"
	"crypto/md5" //nolint:gosec // it is what Content-MD5 is
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"hash"
	"io"
	"net/http"

	"github.com/minio/minio-go/v7"

	"github.com/caly-dev/caly/internal/resilience"
)

// Checksum is how a bucket makes sure that it keeps what was sent. The probe finds out which of them a bucket supports.
type Checksum string

// Checksums, the best first.
const (
	// ChecksumSHA256 sends the SHA-256 of each body, which the store verifies.
	ChecksumSHA256 Checksum = "SHA256"
	// ChecksumMD5 sends Content-MD5, which the store verifies.
	ChecksumMD5 Checksum = "MD5"
	// ChecksumETag sends nothing. The ETag of an object is its MD5.
	ChecksumETag Checksum = "ETag"
	// ChecksumNone sends nothing, and ETags are not digests. Only reading an object back proves what the store has.
	ChecksumNone Checksum = "None"
)

// Sent reports whether digests are sent with each body, and the store refuses a body that does not have them.
func (c Checksum) Sent() bool { return c == ChecksumSHA256 || c == ChecksumMD5 }

// NeedsMD5 reports whether the MD5 of an object is needed. An unknown bucket may have it as ETag.
func (c Checksum) NeedsMD5() bool { return c != ChecksumSHA256 && c != ChecksumNone }

const (
	headerSHA256    = "X-Amz-Checksum-Sha256"
	headerAlgorithm = "X-Amz-Checksum-Algorithm"
)

// Sums are digests of a body. MD5 may be nil where it is not needed.
type Sums struct{ SHA256, MD5 []byte }

// sumsOf computes what a checksum needs of a piece.
func (c Checksum) sumsOf(data []byte) Sums {
	s, _ := c.readSums(bytes.NewReader(data), int64(len(data))) // memory can be read
	return s
}

// readSums computes what a checksum needs of the first bytes of r, and goes back to its beginning.
func (c Checksum) readSums(r io.ReadSeeker, size int64) (s Sums, err error) {
	var h hash.Hash
	switch c {
	case ChecksumSHA256:
		h = sha256.New()
	case ChecksumMD5:
		h = md5.New() //nolint:gosec // see above
	default:
		return s, nil
	}
	if _, err := r.Seek(0, io.SeekStart); err != nil { // an earlier try may have read it
		return s, err
	}
	if _, err := io.Copy(h, io.LimitReader(r, size)); err != nil {
		return s, err
	}
	if c == ChecksumSHA256 {
		s.SHA256 = h.Sum(nil)
	} else {
		s.MD5 = h.Sum(nil)
	}
	_, err = r.Seek(0, io.SeekStart)
	return s, err
}

// headers returns what to send for a body with these digests: the value of x-amz-checksum-sha256, or that of
// Content-MD5.
func (c Checksum) headers(s Sums) (sha, md string) {
	switch c {
	case ChecksumSHA256:
		sha = base64.StdEncoding.EncodeToString(s.SHA256)
	case ChecksumMD5:
		md = base64.StdEncoding.EncodeToString(s.MD5)
	case ChecksumETag, ChecksumNone:
	}
	return sha, md
}

// part returns the options of a part with these digests. The signature covers its headers and not the body.
func (c Checksum) part(s Sums) minio.PutObjectPartOptions {
	o := minio.PutObjectPartOptions{DisableContentSha256: true}
	sha, md := c.headers(s)
	if o.Md5Base64 = md; sha != "" {
		o.CustomHeader = http.Header{headerSHA256: {sha}}
	}
	return o
}

// confirm holds the checksum that a store says it has computed against the one that was sent. Most say nothing.
func confirm(sent, got string) error {
	if sent != "" && got != "" && sent != got {
		return resilience.Retryable(errors.New("the store computed another SHA-256 than was sent"))
	}
	return nil
}
