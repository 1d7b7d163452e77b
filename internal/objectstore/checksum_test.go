package objectstore_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/internal/objectstore"
	"github.com/caly-dev/caly/internal/testkit/certtest"
	"github.com/caly-dev/caly/internal/testkit/s3test"
)

const probeKey = "ns/t/.caly-probe"

// TestNegotiation probes stores that support different checksums, and then uploads to each as the pods do: a short
// object and one in parts, with a length and without. Object Lock is where every upload failed before, with
// "Content-MD5 OR x-amz-checksum- HTTP header is required".
func TestNegotiation(t *testing.T) {
	tests := map[string]struct {
		rules    s3test.Rules
		want     objectstore.Checksum
		wantKept string
	}{
		"Amazon": {want: objectstore.ChecksumSHA256},
		"Object Lock": {
			rules:    s3test.Rules{Lock: true},
			want:     objectstore.ChecksumSHA256,
			wantKept: "object lock",
		},
		"Object Lock, MD5 only": {
			rules:    s3test.Rules{Lock: true, NoSHA256: true, NoCRC64: true},
			want:     objectstore.ChecksumMD5,
			wantKept: "object lock",
		},
		"versions":                      {rules: s3test.Rules{Versioned: true}, want: objectstore.ChecksumSHA256},
		"versions, nothing is verified": {rules: blind(s3test.Rules{Versioned: true}), want: objectstore.ChecksumETag},
		"versions, parts not verified": {
			rules: s3test.Rules{Versioned: true, BlindParts: true},
			want:  objectstore.ChecksumETag,
		},
		"versions must not be deleted": {
			rules:    s3test.Rules{Versioned: true, NoDeleteVersion: true},
			want:     objectstore.ChecksumSHA256,
			wantKept: "s3:DeleteObjectVersion",
		},
		"no SHA-256":              {rules: s3test.Rules{NoSHA256: true}, want: objectstore.ChecksumCRC64NVME},
		"SHA-256 is not verified": {rules: s3test.Rules{BlindSHA256: true}, want: objectstore.ChecksumCRC64NVME},
		"neither SHA-256 nor CRC64NVME": {
			rules: s3test.Rules{NoSHA256: true, NoCRC64: true},
			want:  objectstore.ChecksumMD5,
		},
		"neither is verified": {
			rules: s3test.Rules{BlindSHA256: true, BlindCRC64: true},
			want:  objectstore.ChecksumMD5,
		},
		"parts are not verified": {rules: s3test.Rules{BlindParts: true}, want: objectstore.ChecksumETag},
		"no uploads in parts":    {rules: s3test.Rules{NoParts: true}, want: objectstore.ChecksumETag},
		"Object Lock, parts not verified": {
			rules:    s3test.Rules{Lock: true, BlindParts: true},
			want:     objectstore.ChecksumSHA256,
			wantKept: "object lock",
		},
		"nothing is verified": {rules: blind(s3test.Rules{}), want: objectstore.ChecksumETag},
		"nothing, and other ETags": {
			rules: s3test.Rules{
				NoSHA256:    true,
				NoCRC64:     true,
				BlindMD5:    true,
				OpaqueETags: true,
			},
			want: objectstore.ChecksumNone,
		},
		"nothing, and other ETags of parts": {
			rules: blind(s3test.Rules{OpaquePartETags: true}),
			want:  objectstore.ChecksumNone,
		},
		"parts are not verified, and other ETags of parts": {
			rules: s3test.Rules{
				BlindParts:      true,
				OpaquePartETags: true,
			},
			want: objectstore.ChecksumNone,
		},
		"objects are, parts and MD5 are not, and other ETags of parts": {
			rules: s3test.Rules{
				BlindParts:      true,
				BlindMD5:        true,
				OpaquePartETags: true,
				Versioned:       true,
			},
			want: objectstore.ChecksumNone,
		},
		"SHA-256, and other ETags of parts": {
			rules: s3test.Rules{OpaquePartETags: true},
			want:  objectstore.ChecksumSHA256,
		},
		"MD5, and other ETags of parts": {
			rules: s3test.Rules{NoSHA256: true, NoCRC64: true, OpaquePartETags: true},
			want:  objectstore.ChecksumMD5,
		},
		"SHA-256, and other ETags": {rules: s3test.Rules{OpaqueETags: true}, want: objectstore.ChecksumSHA256},
		"the key must not delete": {
			rules:    s3test.Rules{NoDelete: true},
			want:     objectstore.ChecksumSHA256,
			wantKept: "s3:DeleteObject",
		},
		"virtual hosts":             {rules: s3test.Rules{VirtualHost: true}, want: objectstore.ChecksumSHA256},
		"no multi-object deletions": {rules: s3test.Rules{NoMultiDelete: true}, want: objectstore.ChecksumSHA256},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			strict := s3test.NewStrict(t, tc.rules, nil)
			options := func(c *objectstore.Config) {
				if tc.rules.VirtualHost {
					c.Addressing = objectstore.AddressingVirtualHost
					c.Endpoint = "http://s3.test"
				}
			}
			got, err := openStrict(t, strict, options).ProbeWrite(t.Context(), probeKey)
			if err != nil || got.Checksum != tc.want || (tc.wantKept == "") != (got.Kept == "") ||
				!strings.Contains(got.Kept, tc.wantKept) {
				t.Fatalf("found %+v, %v; want %s, kept %q", got, err, tc.want, tc.wantKept)
			}
			if left := strict.Keys(); tc.wantKept == "" && len(left) > 0 {
				t.Errorf("the probe left %v", left)
			}
			negotiated := len(strict.Asked())
			b := openStrict(t, strict, func(c *objectstore.Config) { options(c); c.Checksum = got.Checksum })
			again, err := b.ProbeWrite(t.Context(), probeKey)
			if err != nil || again.Checksum != tc.want {
				t.Errorf("found %+v, %v the second time; want %s", again, err, tc.want)
			}
			// Parts, versions and three checksums are tried. They cost requests once a day.
			if n := len(strict.Asked()) - negotiated; n > 4 || negotiated > 24 {
				t.Errorf("%d requests to find out, and %d once it is known; want at most 24 and 4", negotiated, n)
			}
			if strictObject, ok := strict.Object(probeKey); ok && tc.wantKept == "" {
				t.Errorf("the probes left %d versions", strictObject.Versions)
			}
			for _, size := range []int{0, 1, objectstore.PartSize, objectstore.PartSize + 1, 2*objectstore.PartSize +
				7} {
				uploadWhole(t, strict, b, size, int64(size))
				if !tc.rules.NoParts {
					uploadWhole(t, strict, b, size, -1)
				}
			}
			if !tc.rules.NoParts {
				sendPart(t, b)
			}
			if n := strict.Uploads(); n != 0 {
				t.Errorf("%d uploads in parts were not ended", n)
			}
		})
	}
}

// blind has a store look at no checksum.
func blind(r s3test.Rules) s3test.Rules {
	r.BlindSHA256 = true
	r.BlindCRC64 = true
	r.BlindMD5 = true
	return r
}

// uploadWhole puts an object of a size, announced or not, and checks what the store has.
func uploadWhole(t *testing.T, s *s3test.Strict, b *objectstore.Bucket, size int, announced int64) {
	t.Helper()
	data := audio(size)
	key := "ns/t/a.mp3"
	sum := sha256.Sum256(data)
	_, err := b.Put(t.Context(), objectstore.Object{
		Key:         key,
		Body:        onlyReader{bytes.NewReader(data)},
		Size:        announced,
		ContentType: "audio/mpeg",
		Meta:        map[string]string{"tenant": "ns/t", "call-sid": "c\n1"},
	})
	if err != nil {
		t.Fatalf("size %d, announced %d: %v", size, announced, err)
	}
	strictObject, ok := s.Object(key)
	if !ok || !bytes.Equal(strictObject.Data, data) {
		t.Fatalf(
			"size %d, announced %d: the store has %d bytes, or other ones", size, announced, len(strictObject.Data),
		)
	}
	if got := strictObject.Header.Get("X-Amz-Meta-Tenant") + " " + strictObject.Header.Get(
		"X-Amz-Meta-Call-Sid",
	); got != "ns/t c%0A1" {
		t.Errorf("size %d: metadata %q", size, got)
	}
	if got := strictObject.Header.Get("X-Amz-Meta-Sha256"); b.Checksum() == objectstore.ChecksumSHA256 &&
		size < objectstore.PartSize &&
		got != hex.EncodeToString(sum[:]) {
		t.Errorf("size %d: metadata sha256 %q", size, got)
	}
	if info, err := b.Stat(t.Context(), key); err != nil || info.Size != int64(size) ||
		info.SHA256 != "" && info.SHA256 != hex.EncodeToString(sum[:]) {
		t.Errorf("size %d: stat %+v, %v", size, info, err)
	}
}

// TestChecksumsAreVerified has a proxy change a byte of each body. With a checksum the store refuses it, in parts too.
func TestChecksumsAreVerified(t *testing.T) {
	server, config := newStore(t)
	proxy := s3test.NewProxy(t, server, func(r *http.Request) s3test.Fault {
		if r.Method == http.MethodPut {
			return s3test.Corrupt
		}
		return s3test.Pass
	})
	for _, c := range []objectstore.Checksum{objectstore.ChecksumSHA256, objectstore.ChecksumCRC64NVME,
		objectstore.ChecksumMD5} {
		b := open(t, config, func(o *objectstore.Config) {
			o.Endpoint = proxy.URL
			o.Checksum = c
		})
		for _, size := range []int{100, objectstore.PartSize + 1} {
			object := objectstore.Object{Key: "ns/t/a", Body: bytes.NewReader(audio(size)), Size: int64(size)}
			if _, err := b.Put(t.Context(), object); err == nil || objectstore.CauseOf(err).Reason != "" {
				t.Errorf("%s, %d bytes that were changed: %v, want an error about this object", c, size, err)
			}
		}
	}
}

// TestWriteProbeFaults probes buckets that can be listed and not written, which read Ready before.
func TestWriteProbeFaults(t *testing.T) {
	tests := map[string]struct {
		rules  s3test.Rules
		change func(*objectstore.Config)
		want   objectstore.Reason
		part   string
	}{
		"SSE-S3 by policy": {
			rules: s3test.Rules{Encryption: "AES256"},
			want:  objectstore.EncryptionRequired,
			part:  "SSE-S3 passes",
		},
		"SSE-S3 by policy, with Object Lock": {
			rules: s3test.Rules{Encryption: "AES256", Lock: true},
			want:  objectstore.EncryptionRequired,
			part:  "SSE-S3 passes",
		},
		"SSE-KMS by policy": {
			rules: s3test.Rules{Encryption: "aws:kms"},
			want:  objectstore.EncryptionRequired,
			part:  "SSE-KMS passes",
		},
		"SSE-KMS with a key by policy": {
			rules: s3test.Rules{Encryption: "aws:kms", KMSKey: "k"},
			want:  objectstore.EncryptionRequired,
			part:  "SSE-KMS",
		},
		"another KMS key": {
			rules: s3test.Rules{Encryption: "aws:kms", KMSKey: "k"},
			change: func(c *objectstore.Config) {
				c.Encryption = objectstore.EncryptionKMS
				c.KMSKeyID = "other"
			},
			want: objectstore.EncryptionKeyRefused,
			part: "Invalid keyId 'other'",
		},
		"no such storage class": {
			change: func(c *objectstore.Config) { c.StorageClass = "GLACIER_IR" },
			want:   objectstore.StorageClassRefused,
		},
		"quota": {
			rules: refuse(403, "QuotaExceeded", "Your request was denied due to quota exceeded."),
			want:  objectstore.QuotaExceeded,
		},
		"may not put": {rules: refuse(403, "AccessDenied", "Access Denied"), want: objectstore.AccessDenied},
		"may not read": {
			rules: s3test.Rules{Refuse: func(r *http.Request) *s3test.Refusal {
				if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "-probe") {
					return &s3test.Refusal{Status: 403, Code: "AccessDenied", Message: "Access Denied"}
				}
				return nil
			}},
			want: objectstore.AccessDenied,
			part: "read the probe's object back",
		},
		"clock": {rules: s3test.Rules{Skew: time.Hour}, want: objectstore.ClockSkew},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			strict := s3test.NewStrict(t, tc.rules, nil)
			b := openStrict(t, strict, tc.change)
			_, err := b.ProbeWrite(t.Context(), probeKey)
			var probe *objectstore.ProbeError
			if !errors.As(err, &probe) || probe.Reason != tc.want || !strings.Contains(probe.Message, tc.part) {
				t.Errorf("got %v, want %s with %q", err, tc.want, tc.part)
			}
			if left := strict.Keys(); len(left) > 1 || len(left) == 1 && left[0] != probeKey {
				t.Errorf("the probe left %v", left)
			}
		})
	}
}

// TestChangingStore probes a store that changes what it keeps, as one that does not know a body's encoding does.
func TestChangingStore(t *testing.T) {
	_, config := newStore(t)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
		if r.Method == http.MethodGet {
			_, _ = w.Write([]byte("other bytes"))
		}
	}))
	defer server.Close()
	_, err := open(t, config, func(c *objectstore.Config) { c.Endpoint = server.URL }).ProbeWrite(t.Context(), probeKey)
	var probe *objectstore.ProbeError
	if !errors.As(err, &probe) || probe.Reason != objectstore.ContentChanged || !probe.Stop {
		t.Errorf("got %v, want ContentChanged", err)
	}
}

// TestCrashedProbe ends probes in the middle. The next one replaces what they left, and leaves nothing.
func TestCrashedProbe(t *testing.T) {
	strict := s3test.NewStrict(t, s3test.Rules{}, nil)
	b := openStrict(t, strict, nil)
	for n := 1; n < 11; n++ {
		ctx, cancel := context.WithCancel(t.Context())
		asked := 0
		strict.SetRules(func(r *s3test.Rules) {
			r.Refuse = func(*http.Request) *s3test.Refusal {
				if asked++; asked == n {
					cancel()
				}
				return nil
			}
		})
		_, _ = b.ProbeWrite(ctx, probeKey)
		cancel()
		if left := strict.Keys(); len(left) > 1 {
			t.Errorf("after the end at request %d: %v", n, left)
		}
	}
	strict.SetRules(func(r *s3test.Rules) { r.Refuse = nil })
	if _, err := b.ProbeWrite(t.Context(), probeKey); err != nil || len(strict.Keys()) != 0 || strict.Uploads() != 0 {
		t.Errorf("the next probe: %v, and left %v and %d uploads in parts", err, strict.Keys(), strict.Uploads())
	}
}

// TestOptions uploads with each option, to stores that require it.
func TestOptions(t *testing.T) {
	tests := map[string]struct {
		rules   s3test.Rules
		options objectstore.Options
		want    map[string]string
	}{
		"SSE-S3": {s3test.Rules{Encryption: "AES256"}, objectstore.Options{Encryption: objectstore.EncryptionS3},
			map[string]string{"X-Amz-Server-Side-Encryption": "AES256"}},
		"SSE-KMS": {s3test.Rules{Encryption: "aws:kms"}, objectstore.Options{Encryption: objectstore.EncryptionKMS},
			map[string]string{
				"X-Amz-Server-Side-Encryption":                "aws:kms",
				"X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id": "",
			}},
		"SSE-KMS with a key": {s3test.Rules{Encryption: "aws:kms", KMSKey: "arn:aws:kms:k"},
			objectstore.Options{Encryption: objectstore.EncryptionKMS, KMSKeyID: "arn:aws:kms:k"}, nil},
		"storage class": {s3test.Rules{StorageClasses: []string{"STANDARD_IA"}},
			objectstore.Options{StorageClass: "STANDARD_IA"},
			map[string]string{"X-Amz-Storage-Class": "STANDARD_IA"}},
		"tags": {s3test.Rules{}, objectstore.Options{Tags: map[string]string{"team": "voice ops"}},
			map[string]string{"X-Amz-Tagging": "team=voice+ops"}},
		"no options": {s3test.Rules{}, objectstore.Options{}, map[string]string{
			"X-Amz-Tagging":                "",
			"X-Amz-Storage-Class":          "",
			"X-Amz-Server-Side-Encryption": "",
		}},
	}
	for name, tc := range tests {
		for _, size := range []int{10, objectstore.PartSize + 1} { // whole, and in parts
			t.Run(name, func(t *testing.T) {
				strict := s3test.NewStrict(t, tc.rules, nil)
				b := openStrict(t, strict, func(c *objectstore.Config) {
					c.Options = tc.options
					c.Checksum = objectstore.ChecksumSHA256
				})
				if _, err := b.ProbeWrite(t.Context(), probeKey); err != nil {
					t.Fatal(err)
				}
				object := objectstore.Object{Key: "ns/t/a", Body: bytes.NewReader(audio(size)), Size: int64(size)}
				if _, err := b.Put(t.Context(), object); err != nil {
					t.Fatal(err)
				}
				got, _ := strict.Object("ns/t/a")
				for name, want := range tc.want {
					if got.Header.Get(name) != want {
						t.Errorf("%s is %q, want %q", name, got.Header.Get(name), want)
					}
				}
			})
		}
	}
}

// TestSessionToken uploads with temporary credentials.
func TestSessionToken(t *testing.T) {
	strict := s3test.NewStrict(t, s3test.Rules{Token: "FwoGZXIvYXdzE"}, nil)
	b := openStrict(t, strict, func(c *objectstore.Config) { c.SessionToken = "FwoGZXIvYXdzE" })
	if _, err := b.ProbeWrite(t.Context(), probeKey); err != nil {
		t.Error(err)
	}
}

// TestPrivateAuthority opens a store whose certificate a private authority has signed.
func TestPrivateAuthority(t *testing.T) {
	authority := certtest.New(t)
	for name, tc := range map[string]struct {
		address string
		until   time.Time
		bundle  string
		want    string
	}{
		"trusted":           {"127.0.0.1", time.Now().Add(time.Hour), authority.PEM, ""},
		"not trusted":       {"127.0.0.1", time.Now().Add(time.Hour), "", "unknown authority"},
		"another authority": {"127.0.0.1", time.Now().Add(time.Hour), certtest.New(t).PEM, "unknown authority"},
		"another host":      {"127.0.0.2", time.Now().Add(time.Hour), authority.PEM, "another host name"},
		"expired":           {"127.0.0.1", time.Now().Add(-time.Hour), authority.PEM, "has expired"},
	} {
		t.Run(name, func(t *testing.T) {
			strict := s3test.NewStrict(t, s3test.Rules{}, func(server *httptest.Server) {
				server.TLS = &tls.Config{Certificates: []tls.Certificate{authority.Sign(t, tc.address, tc.until)}}
			})
			err := openStrict(t, strict, func(c *objectstore.Config) { c.CABundle = tc.bundle }).Probe(t.Context())
			if tc.want == "" && err != nil {
				t.Error(err)
			}
			if tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
	if _, err := objectstore.New(objectstore.Config{
		Endpoint: "https://s3.test",
		Bucket:   "bucket",
		Options:  objectstore.Options{CABundle: "nonsense"},
	}, nil); err == nil {
		t.Error("a bundle without certificates was accepted")
	}
}

// TestHosts looks at the host names that requests go to. The client's own default for Amazon is dual-stack.
func TestHosts(t *testing.T) {
	const amazon = "https://s3.eu-west-1.amazonaws.com"
	tests := map[string]struct {
		endpoint string
		options  objectstore.Options
		want     string
	}{
		"Amazon": {amazon, objectstore.Options{}, "bucket.s3.eu-west-1.amazonaws.com"},
		"Amazon, path": {amazon, objectstore.Options{Addressing: objectstore.AddressingPath},
			"s3.eu-west-1.amazonaws.com"},
		"Amazon, dual-stack": {amazon, objectstore.Options{DualStack: true},
			"bucket.s3.dualstack.eu-west-1.amazonaws.com"},
		"Amazon, dual-stack endpoint": {"https://s3.dualstack.eu-west-1.amazonaws.com", objectstore.Options{},
			"bucket.s3.dualstack.eu-west-1.amazonaws.com"},
		"another": {"https://s3.test", objectstore.Options{}, "s3.test"},
		"another, virtual host": {"https://s3.test",
			objectstore.Options{Addressing: objectstore.AddressingVirtualHost}, "bucket.s3.test"},
		"another name for people": {"https://s3.svc", objectstore.Options{PublicEndpoint: "https://media.test"},
			"media.test"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			link, err := objectstore.PresignGet(objectstore.Config{
				Endpoint:        tc.endpoint,
				Region:          "eu-west-1",
				Bucket:          "bucket",
				AccessKeyID:     "k",
				SecretAccessKey: "s",
				Options:         tc.options,
			}, "ns/t/a", time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			if host := strings.Split(link, "/")[2]; host != tc.want {
				t.Errorf("host %s, want %s", host, tc.want)
			}
		})
	}
}

// TestDeleteOneByOne deletes a prefix in a store that cannot delete several objects in a request.
func TestDeleteOneByOne(t *testing.T) {
	strict := s3test.NewStrict(t, s3test.Rules{NoMultiDelete: true}, nil)
	b := openStrict(t, strict, nil)
	for _, key := range []string{"ns/t/1", "ns/t/2", "ns/t2/1"} {
		if _, err := b.Put(t.Context(), objectstore.Object{
			Key:  key,
			Body: strings.NewReader("x"),
			Size: 1,
		}); err != nil {
			t.Fatal(err)
		}
	}
	n, err := b.DeletePrefix(t.Context(), "ns/t/")
	if diff := cmp.Diff([]string{"ns/t2/1"}, strict.Keys()); n != 2 || err != nil || diff != "" {
		t.Errorf("%d deleted, %v; left (-want +got):\n%s", n, err, diff)
	}
	strict.SetRules(func(r *s3test.Rules) { r.NoDelete = true })
	if n, err := b.DeletePrefix(t.Context(), "ns/t2/"); n != 0 ||
		objectstore.CauseOf(err).Reason != objectstore.AccessDenied {
		t.Errorf("%d deleted without the right to, %v", n, err)
	}
	if !slices.Contains(strict.Keys(), "ns/t2/1") {
		t.Error("it is gone all the same")
	}
}
