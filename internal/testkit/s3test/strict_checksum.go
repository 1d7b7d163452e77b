package s3test

import (
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strings"

	"github.com/minio/minio-go/v7"
)

// check holds a body against the digests of its headers.
func (s *Strict) check(h http.Header, body []byte, what string) *Refusal {
	md := h.Get("Content-Md5")
	sent := false
	for _, c := range s.checksums(body, what) {
		value := h.Get(c.header)
		if value == "" {
			continue
		}
		sent = true
		if c.unknown { // io7m-com/exfilac#35
			return &Refusal{501, "NotImplemented",
				"A header you provided implies functionality that is not implemented: " + strings.ToLower(c.header), ""}
		}
		if !c.blind && value != c.want {
			return &Refusal{400, "BadDigest", "The " + c.name +
				" you specified did not match the calculated checksum.", ""}
		}
	}
	if s.rules.Lock && !sent && md == "" { // versity/versitygw#1776, s3tools/s3cmd#1436
		return &Refusal{
			400,
			"InvalidRequest",
			"Content-MD5 OR x-amz-checksum- HTTP header is required for Put " + what +
				" requests with Object Lock parameters",
			"",
		}
	}
	want := md5.Sum(body)
	if md != "" && !s.blind(s.rules.BlindMD5, what) && md != base64.StdEncoding.EncodeToString(want[:]) {
		return &Refusal{400, "BadDigest", "The Content-MD5 you specified did not match what we received.", ""}
	}
	return nil
}

// strictChecksum is what a Strict store makes of one checksum header.
type strictChecksum struct {
	header, name, want string
	unknown, blind     bool
}

func (s *Strict) checksums(body []byte, what string) []strictChecksum {
	sha := sha256.Sum256(body)
	crc := minio.ChecksumCRC64NVME.Hasher()
	_, _ = crc.Write(body)
	return []strictChecksum{
		{"X-Amz-Checksum-Sha256", "SHA256", base64.StdEncoding.EncodeToString(sha[:]), s.rules.NoSHA256,
			s.blind(s.rules.BlindSHA256, what)},
		{"X-Amz-Checksum-Crc64nvme", "CRC64NVME", base64.StdEncoding.EncodeToString(crc.Sum(nil)), s.rules.NoCRC64,
			s.blind(s.rules.BlindCRC64, what)},
	}
}

// blind reports whether a checksum is not looked at.
func (s *Strict) blind(rule bool, what string) bool {
	return rule || what == "Part" && s.rules.BlindParts
}
