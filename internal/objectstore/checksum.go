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
	// ChecksumCRC64NVME sends the CRC-64/NVME of each body, which the store verifies.
	ChecksumCRC64NVME Checksum = "CRC64NVME"
	// ChecksumMD5 sends Content-MD5, which the store verifies.
	ChecksumMD5 Checksum = "MD5"
	// ChecksumETag sends nothing. The ETag of an object, and that of a part, is its MD5.
	ChecksumETag Checksum = "ETag"
	// ChecksumNone sends nothing, and ETags are not digests. Only reading an object back proves what the store has.
	ChecksumNone Checksum = "None"
)

// Sent reports whether digests are sent with each body, and the store refuses a body that does not have them.
func (c Checksum) Sent() bool { return c.inHeader() || c == ChecksumMD5 }

// inHeader reports whether the digest has an x-amz-checksum header, and an upload in parts is begun with its name.
func (c Checksum) inHeader() bool { return c == ChecksumSHA256 || c == ChecksumCRC64NVME }

// NeedsMD5 reports whether the MD5 of an object is needed. An unknown bucket may have it as ETag.
func (c Checksum) NeedsMD5() bool { return !c.inHeader() && c != ChecksumNone }

const (
	headerSHA256    = "X-Amz-Checksum-Sha256"
	headerCRC64NVME = "X-Amz-Checksum-Crc64nvme"
	headerAlgorithm = "X-Amz-Checksum-Algorithm"
)

// Sums are digests of a body. Those that are not needed may be nil.
type Sums struct{ SHA256, MD5, CRC64NVME []byte }

// sumsOf computes what a checksum needs of a piece.
func (c Checksum) sumsOf(data []byte) Sums {
	sums, _ := c.readSums(bytes.NewReader(data), int64(len(data))) // memory can be read
	return sums
}

// readSums computes what a checksum needs of the first bytes of r, and goes back to its beginning.
func (c Checksum) readSums(r io.ReadSeeker, size int64) (s Sums, err error) {
	hash := c.newHash()
	if hash == nil {
		return s, nil
	}
	if _, err := r.Seek(0, io.SeekStart); err != nil { // an earlier try may have read it
		return s, err
	}
	if _, err := io.Copy(hash, io.LimitReader(r, size)); err != nil {
		return s, err
	}
	switch c {
	case ChecksumSHA256:
		s.SHA256 = hash.Sum(nil)
	case ChecksumCRC64NVME:
		s.CRC64NVME = hash.Sum(nil)
	default:
		s.MD5 = hash.Sum(nil)
	}
	_, err = r.Seek(0, io.SeekStart)
	return s, err
}

// newHash returns nil for a checksum that is not sent.
func (c Checksum) newHash() hash.Hash {
	switch c {
	case ChecksumSHA256:
		return sha256.New()
	case ChecksumCRC64NVME:
		return minio.ChecksumCRC64NVME.Hasher()
	case ChecksumMD5:
		return md5.New() //nolint:gosec // see above
	case ChecksumETag, ChecksumNone:
	}
	return nil
}

// sentSum is what a request says of its body: a header of S3 with its value, or the value of Content-MD5.
type sentSum struct{ header, value, md5 string }

// sent returns what to send for a body with these digests.
func (c Checksum) sent(s Sums) sentSum {
	switch c {
	case ChecksumSHA256:
		return sentSum{header: headerSHA256, value: base64.StdEncoding.EncodeToString(s.SHA256)}
	case ChecksumCRC64NVME:
		return sentSum{header: headerCRC64NVME, value: base64.StdEncoding.EncodeToString(s.CRC64NVME)}
	case ChecksumMD5:
		return sentSum{md5: base64.StdEncoding.EncodeToString(s.MD5)}
	case ChecksumETag, ChecksumNone:
	}
	return sentSum{}
}

// addTo adds the header to the options of an object.
func (s sentSum) addTo(o *minio.PutObjectOptions) {
	if s.header != "" {
		o.UserMetadata[s.header] = s.value
	}
}

// part returns the options of a part. The signature covers its headers and not the body.
func (s sentSum) part() minio.PutObjectPartOptions {
	o := minio.PutObjectPartOptions{DisableContentSha256: true, Md5Base64: s.md5}
	if s.header != "" {
		o.CustomHeader = http.Header{s.header: {s.value}}
	}
	return o
}

// completed is what the completion of an upload says of a part.
func (s sentSum) completed(number int, etag string) minio.CompletePart {
	completePart := minio.CompletePart{PartNumber: number, ETag: etag}
	switch s.header {
	case headerSHA256:
		completePart.ChecksumSHA256 = s.value
	case headerCRC64NVME:
		completePart.ChecksumCRC64NVME = s.value
	}
	return completePart
}

// confirm holds the checksums that a store says it has computed against the one that was sent. Most say nothing.
func (s sentSum) confirm(sha, crc string) error {
	got := map[string]string{headerSHA256: sha, headerCRC64NVME: crc}[s.header]
	if got != "" && got != s.value {
		return resilience.Retryable(errors.New("the store computed another checksum than was sent"))
	}
	return nil
}
