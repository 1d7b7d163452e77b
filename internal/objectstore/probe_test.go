package objectstore_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/caly-dev/caly/internal/objectstore"
	"github.com/caly-dev/caly/internal/testkit/s3test"
)

// sendPart sends a part as captures do.
func sendPart(t *testing.T, b *objectstore.Bucket) {
	t.Helper()
	id, err := b.BeginUpload(t.Context(), objectstore.Object{Key: "ns/t/a.wav", ContentType: "audio/wav"})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.PutPart(t.Context(), objectstore.NewPart{
		Key:      "ns/t/a.wav",
		UploadID: id,
		Begun:    b.Checksum(),
		Number:   1,
		Body:     strings.NewReader("x"),
		Size:     1,
	}); err != nil {
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
		"ETags are others": {objectstore.ChecksumETag, s3test.Rules{
			NoSHA256:    true,
			NoCRC64:     true,
			BlindMD5:    true,
			OpaqueETags: true,
		}, objectstore.ChecksumNone},
		"MD5 is ignored":  {objectstore.ChecksumMD5, s3test.Rules{BlindMD5: true}, objectstore.ChecksumSHA256},
		"MD5 still holds": {objectstore.ChecksumMD5, s3test.Rules{NoSHA256: true}, objectstore.ChecksumMD5},
	} {
		t.Run(name, func(t *testing.T) {
			strict := s3test.NewStrict(t, tc.rules, nil)
			b := openStrict(t, strict, func(c *objectstore.Config) { c.Checksum = tc.known })
			if got, err := b.ProbeWrite(t.Context(), probeKey); err != nil || got.Checksum != tc.want {
				t.Errorf("found %+v, %v; want %s", got, err, tc.want)
			}
		})
	}
}

// TestKept fails probes after their write. Kept has only what the bucket does not let be deleted.
func TestKept(t *testing.T) {
	const down = objectstore.EndpointUnreachable
	for name, tc := range map[string]struct {
		refusal  s3test.Refusal
		versions bool
		want     objectstore.Reason
		wantKept bool
	}{
		"the store is busy":        {s3test.Refusal{Status: 503, Code: "SlowDown"}, false, down, false},
		"it breaks":                {s3test.Refusal{Status: 500, Code: "InternalError"}, false, down, false},
		"it breaks, with versions": {s3test.Refusal{Status: 500, Code: "InternalError"}, true, down, true},
		"may not read nor delete": {s3test.Refusal{Status: 403, Code: "AccessDenied"}, false,
			objectstore.AccessDenied, true},
	} {
		strict := s3test.NewStrict(t, s3test.Rules{
			Versioned: tc.versions,
			Refuse: func(r *http.Request) *s3test.Refusal {
				read := r.Method == http.MethodGet && r.URL.RawQuery == ""
				if read || r.Method == http.MethodDelete && !r.URL.Query().Has("uploadId") {
					return &tc.refusal
				}
				return nil
			},
		}, nil)
		found, err := openStrict(t, strict, nil).ProbeWrite(t.Context(), probeKey)
		var probe *objectstore.ProbeError
		if !errors.As(err, &probe) || probe.Reason != tc.want || (found.Kept != "") != tc.wantKept {
			t.Errorf("%s: found %+v, %v; want %s, something kept: %v", name, found, err, tc.want, tc.wantKept)
		}
		if (found.Written != "") != tc.wantKept {
			t.Errorf("%s: digest %q of what is kept", name, found.Written)
		}
		if found.Checksum != objectstore.ChecksumSHA256 {
			t.Errorf("%s: checksum %q, want the one that was found before", name, found.Checksum)
		}
	}
}

// TestNoPartsAnswers probes stores that take no uploads in parts, each with another answer to the request that begins
// one. Such a bucket can be used. A capture that needs parts learns why it cannot be stored.
func TestNoPartsAnswers(t *testing.T) {
	verifies := s3test.Rules{}
	ignores := blind(s3test.Rules{})
	for name, tc := range map[string]struct {
		rules    s3test.Rules
		answer   s3test.Refusal
		want     objectstore.Checksum
		wantText string
	}{
		"NoSuchUpload": {ignores, s3test.Refusal{Status: 404, Code: "NoSuchUpload", Message: "no such upload"},
			objectstore.ChecksumETag, "no such upload"},
		"NotImplemented": {ignores, s3test.Refusal{Status: 404, Code: "NotImplemented", Message: "not here"},
			objectstore.ChecksumETag, "not here"},
		"NoSuchKey": {ignores, s3test.Refusal{Status: 404, Code: "NoSuchKey", Message: "no such key"},
			objectstore.ChecksumETag, "NoSuchKey"},
		"no words of S3": {ignores, s3test.Refusal{Status: 404}, objectstore.ChecksumETag, "no S3 answer"},
		"no words, 405":  {ignores, s3test.Refusal{Status: 405}, objectstore.ChecksumETag, "no S3 answer"},
		"not allowed": {ignores, s3test.Refusal{Status: 405, Code: "MethodNotAllowed"}, objectstore.ChecksumETag,
			"405"},
		"objects are verified": {verifies, s3test.Refusal{Status: 404, Code: "NoSuchUpload"}, objectstore.ChecksumETag,
			"NoSuchUpload"},
		"Object Lock": {s3test.Rules{Lock: true}, s3test.Refusal{Status: 404}, objectstore.ChecksumSHA256,
			"no S3 answer"},
	} {
		t.Run(name, func(t *testing.T) {
			rules := tc.rules
			rules.Refuse = func(r *http.Request) *s3test.Refusal {
				if r.Method == http.MethodPost && r.URL.Query().Has("uploads") {
					return &tc.answer
				}
				return nil
			}
			strict := s3test.NewStrict(t, rules, nil)
			found, err := openStrict(t, strict, nil).ProbeWrite(t.Context(), probeKey)
			if err != nil || found.Checksum != tc.want {
				t.Fatalf("found %+v, %v; want %s", found, err, tc.want)
			}
			b := openStrict(t, strict, func(c *objectstore.Config) { c.Checksum = found.Checksum })
			_, err = b.BeginUpload(t.Context(), objectstore.Object{Key: "ns/t/a.wav"})
			if err == nil || !strings.Contains(err.Error(), tc.wantText) {
				t.Errorf("a capture learns %v, want %q", err, tc.wantText)
			}
			uploadWhole(t, strict, b, objectstore.PartSize-1, -1)
			if tc.want == objectstore.ChecksumETag {
				uploadWhole(t, strict, b, objectstore.PartSize+1, objectstore.PartSize+1)
			}
		})
	}
}

// TestNoPartsOnce has an ingress answer the first requests that begin an upload in parts in place of the store, as it
// does while it is being replaced. One such answer must not decide on the checksum of a day.
func TestNoPartsOnce(t *testing.T) {
	for name, tc := range map[string]struct {
		rules  s3test.Rules
		answer s3test.Refusal
		times  int
		want   objectstore.Checksum
		// wantBegun is how many uploads in parts the probe begins.
		wantBegun int
	}{
		"404, once": {
			answer:    s3test.Refusal{Status: 404},
			times:     1,
			want:      objectstore.ChecksumSHA256,
			wantBegun: 2,
		},
		"405, once": {
			answer:    s3test.Refusal{Status: 405},
			times:     1,
			want:      objectstore.ChecksumSHA256,
			wantBegun: 2,
		},
		"once, checksums are ignored": {
			rules:     blind(s3test.Rules{OpaquePartETags: true}),
			answer:    s3test.Refusal{Status: 404},
			times:     1,
			want:      objectstore.ChecksumNone,
			wantBegun: 2,
		},
		"always": {
			answer: s3test.Refusal{Status: 404},
			times:  100,
			want:   objectstore.ChecksumETag,
			// Twice for the first checksum, once for the two others, and once for the ETag.
			wantBegun: 5,
		},
		"a code of S3": {
			answer:    s3test.Refusal{Status: 404, Code: "NotImplemented"},
			times:     1,
			want:      objectstore.ChecksumCRC64NVME,
			wantBegun: 2,
		},
	} {
		t.Run(name, func(t *testing.T) {
			begun := 0
			tc.rules.Refuse = func(r *http.Request) *s3test.Refusal {
				if r.Method != http.MethodPost || !r.URL.Query().Has("uploads") {
					return nil
				}
				if begun++; begun <= tc.times {
					return &tc.answer
				}
				return nil
			}
			strict := s3test.NewStrict(t, tc.rules, nil)
			found, err := openStrict(t, strict, nil).ProbeWrite(t.Context(), probeKey)
			if err != nil || found.Checksum != tc.want || begun != tc.wantBegun {
				t.Errorf("found %+v, %v after %d uploads in parts; want %s after %d", found, err, begun, tc.want,
					tc.wantBegun)
			}
		})
	}
}
