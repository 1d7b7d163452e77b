package objectstore_test

import (
	"strings"
	"testing"

	"github.com/caly-dev/caly/internal/objectstore"
	"github.com/caly-dev/caly/internal/objectstore/s3test"
)

// sendPart sends a part as captures do.
func sendPart(t *testing.T, b *objectstore.Bucket) {
	t.Helper()
	id, err := b.BeginUpload(t.Context(), objectstore.Object{Key: "ns/t/a.wav", ContentType: "audio/wav"})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.PutPart(t.Context(), "ns/t/a.wav", id, b.Checksum(), 1, strings.NewReader("x"), 1); err != nil {
		t.Errorf("a part: %v", err)
	}
	if err := b.AbortUpload(t.Context(), "ns/t/a.wav", id); err != nil {
		t.Error(err)
	}
}

// TestProbeOfAnotherStore has another store take over the endpoint. What the first one verified, this one ignores, and
// its uploads must not be trusted with it.
func TestProbeOfAnotherStore(t *testing.T) {
	for name, tc := range map[string]struct {
		known objectstore.Checksum
		rules s3test.Rules
		want  objectstore.Checksum
	}{
		"SHA-256 is ignored": {objectstore.ChecksumSHA256, s3test.Rules{BlindSHA256: true},
			objectstore.ChecksumCRC64NVME},
		"both headers are ignored": {objectstore.ChecksumSHA256, s3test.Rules{BlindSHA256: true, BlindCRC64: true},
			objectstore.ChecksumMD5},
		"all are ignored":       {objectstore.ChecksumSHA256, blind(s3test.Rules{}), objectstore.ChecksumETag},
		"CRC64NVME still holds": {objectstore.ChecksumCRC64NVME, s3test.Rules{}, objectstore.ChecksumCRC64NVME},
		"ETags are others": {objectstore.ChecksumETag, s3test.Rules{NoSHA256: true, NoCRC64: true, BlindMD5: true,
			OpaqueETags: true}, objectstore.ChecksumNone},
		"MD5 is ignored":  {objectstore.ChecksumMD5, s3test.Rules{BlindMD5: true}, objectstore.ChecksumSHA256},
		"MD5 still holds": {objectstore.ChecksumMD5, s3test.Rules{NoSHA256: true}, objectstore.ChecksumMD5},
	} {
		t.Run(name, func(t *testing.T) {
			s := s3test.NewStrict(t, tc.rules, nil)
			b := openStrict(t, s, func(c *objectstore.Config) { c.Checksum = tc.known })
			if got, err := b.ProbeWrite(t.Context(), probeKey); err != nil || got.Checksum != tc.want {
				t.Errorf("found %+v, %v; want %s", got, err, tc.want)
			}
		})
	}
}
