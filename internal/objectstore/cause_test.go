package objectstore_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caly-dev/caly/internal/objectstore"
	"github.com/caly-dev/caly/internal/testkit/s3test"
)

// openStrict returns the bucket of a strict store, whose host names all lead to it.
func openStrict(t *testing.T, s *s3test.Strict, change func(*objectstore.Config)) *objectstore.Bucket {
	t.Helper()
	config := objectstore.Config{
		Endpoint:        s.URL,
		Region:          "us-east-1",
		AccessKeyID:     s.AccessKey,
		SecretAccessKey: s.SecretKey,
		Bucket:          s.Bucket,
	}
	if change != nil {
		change(&config)
	}
	transport := objectstore.NewTransport(loopback, 8)
	t.Cleanup(transport.CloseIdleConnections)
	address := s.URL[strings.Index(s.URL, "//")+2:]
	transport.HTTP().DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}
	b, err := objectstore.New(config, transport)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// refuse answers each PUT of an object.
func refuse(status int, code, message string) s3test.Rules {
	return s3test.Rules{Refuse: func(r *http.Request) *s3test.Refusal {
		if r.Method != http.MethodPut {
			return nil
		}
		return &s3test.Refusal{Status: status, Code: code, Message: message}
	}}
}

// TestCauses asks stores that refuse for one cause each. The error names that cause, with the store's own words, and
// what to do about it. Before there was one table, all but the first two read "refused the credentials" or "correct the
// endpoint".
func TestCauses(t *testing.T) {
	config := func(change func(*objectstore.Config)) func(*objectstore.Config) { return change }
	tests := map[string]struct {
		rules  s3test.Rules
		change func(*objectstore.Config)
		want   objectstore.Reason
		stop   bool
		parts  []string
	}{
		"no such bucket": {
			change: config(func(c *objectstore.Config) { c.Bucket = "other-bucket" }),
			want:   objectstore.BucketNotFound,
			stop:   true,
			parts:  []string{"NoSuchBucket", "The specified bucket does not exist", "create it"},
		},
		"unknown key": {
			change: config(func(c *objectstore.Config) { c.AccessKeyID = "nobody" }),
			want:   objectstore.CredentialsRefused,
			stop:   true,
			parts:  []string{"does not exist in our records", "spec.recordings.credentialsSecretRef"},
		},
		"wrong secret": {
			change: config(func(c *objectstore.Config) { c.SecretAccessKey = "x" }),
			want:   objectstore.CredentialsRefused,
			stop:   true,
			parts:  []string{"SignatureDoesNotMatch"},
		},
		"session token missing": {
			rules: s3test.Rules{Token: "t"},
			want:  objectstore.CredentialsRefused,
			stop:  true,
			parts: []string{"InvalidToken"},
		},
		"another region": {
			rules: s3test.Rules{Region: "eu-central-1"},
			want:  objectstore.RegionMismatch,
			stop:  true,
			parts: []string{"expecting 'eu-central-1'", "names the region eu-central-1", "spec.recordings.region"},
		},
		"redirect": {
			rules: s3test.Rules{Region: "eu-west-1", Redirect: true},
			want:  objectstore.EndpointMismatch,
			stop:  true,
			parts: []string{"301 PermanentRedirect", "names the region eu-west-1",
				"strict-bucket.s3.eu-west-1.amazonaws.com"},
		},
		"store's clock ahead": {
			rules: s3test.Rules{Skew: 20 * time.Minute},
			want:  objectstore.ClockSkew,
			parts: []string{"RequestTimeTooSkewed", "its clock says", "the clock of this machine"},
		},
		"store's clock behind": {
			rules: s3test.Rules{Skew: -time.Hour},
			want:  objectstore.ClockSkew,
			parts: []string{"its clock says"},
		},
		"virtual host only": {
			rules: s3test.Rules{VirtualHost: true},
			want:  objectstore.AddressingStyle,
			stop:  true,
			parts: []string{"Please use virtual hosted style", "spec.recordings.addressing"},
		},
		"virtual host only, by text": {
			rules: refuse(403, "InvalidRequest",
				"Virtual host domain is required while accessing a specific bucket."),
			want: objectstore.AddressingStyle,
			stop: true,
		},
		"quota of versitygw and Ceph": {
			rules: refuse(403, "QuotaExceeded",
				"Your request was denied due to quota exceeded."),
			want:  objectstore.QuotaExceeded,
			stop:  true,
			parts: []string{"denied due to quota", "raise the quota"},
		},
		"quota of MinIO": {
			rules: refuse(400, "XMinioAdminBucketQuotaExceeded", "Bucket quota exceeded"),
			want:  objectstore.QuotaExceeded,
			stop:  true,
		},
		"full disk of MinIO": {
			rules: refuse(507, "XMinioStorageFull",
				"Storage backend has reached its minimum free drive threshold."),
			want: objectstore.QuotaExceeded,
			stop: true,
		},
		"quota by text": {
			rules: refuse(403, "AccessDenied", "The storage quota of the account is used up"),
			want:  objectstore.QuotaExceeded,
			stop:  true,
		},
		"cap of Backblaze": {
			rules: refuse(403, "AccessDenied",
				"Cannot upload files, storage cap exceeded. See the Caps & Alerts page."),
			want: objectstore.QuotaExceeded,
			stop: true,
		},
		"KMS key": {
			rules: s3test.Rules{KMSKey: "k"},
			want:  objectstore.EncryptionKeyRefused,
			stop:  true,
			parts: []string{"KMS.NotFoundException", "spec.recordings.encryption.kmsKeyID"},
		},
		"KMS rights": {
			rules: refuse(403, "AccessDenied",
				"User: arn:aws:sts::1:x is not authorized to perform: kms:GenerateDataKey on this resource"),
			want:  objectstore.EncryptionKeyRefused,
			stop:  true,
			parts: []string{"kms:GenerateDataKey on this resource"},
		},
		"Object Lock": {
			rules: s3test.Rules{Lock: true},
			want:  objectstore.ObjectLocked,
			parts: []string{"Content-MD5 OR x-amz-checksum-"},
		},
		"denied": {
			rules: refuse(403, "AccessDenied", "Access Denied"),
			want:  objectstore.AccessDenied,
			stop:  true,
			parts: []string{`"Access Denied"`, "bucket's policy"},
		},
		"suspended": {rules: refuse(403, "UserSuspended", ""), want: objectstore.AccountDisabled, stop: true},
		"not supported": {
			rules: refuse(501, "NotImplemented",
				"A header you provided implies functionality that is not "+
					"implemented"),
			want: objectstore.NotSupported,
			stop: true,
		},
		"a page of a proxy": {rules: refuse(403, "not a code", ""), want: ""},
		"throttled":         {rules: refuse(503, "SlowDown", "Please reduce your request rate."), want: ""},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			b := openStrict(t, s3test.NewStrict(t, tc.rules, nil), tc.change)
			_, err := b.Put(t.Context(), objectstore.Object{
				Key:         "ns/t/x",
				Body:        bytes.NewReader(audio(10)),
				Size:        10,
				ContentType: "audio/mpeg",
			})
			if err == nil {
				t.Fatal("no error")
			}
			got := objectstore.CauseOf(err)
			text := objectstore.Explain(err)
			if got.Reason != tc.want || got.Stop != tc.stop {
				t.Errorf("reason %q and stop %v, want %q and %v: %v", got.Reason, got.Stop, tc.want, tc.stop, err)
			}
			for _, part := range tc.parts {
				if !strings.Contains(text, part) {
					t.Errorf("the text lacks %q: %s", part, text)
				}
			}
			if len(text) > 1000 || strings.ContainsAny(text, "\r\n\t") {
				t.Errorf("the text is not one line of at most 1000 bytes: %q", text)
			}
		})
	}
}

// TestCertificates asks stores with certificates that cannot be verified. The error says which fault it is, and nothing
// that is written in the certificate.
func TestCertificates(t *testing.T) {
	strict := s3test.NewStrict(t, s3test.Rules{}, func(*httptest.Server) {})
	b := openStrict(t, strict, nil)
	err := b.Probe(t.Context())
	var probe *objectstore.ProbeError
	if !errors.As(err, &probe) || probe.Reason != objectstore.CertificateNotTrusted || !probe.Stop ||
		!strings.Contains(err.Error(), "unknown authority") || !strings.Contains(err.Error(),
		"spec.recordings.caSecretRef") ||
		strings.Contains(err.Error(), "Acme") {
		t.Errorf("got %v, want CertificateNotTrusted without the certificate's words", err)
	}
}

// TestHeadAnswers asks for objects of stores that refuse, by requests whose answers have no body. The cause is that of
// a request whose answer has one.
func TestHeadAnswers(t *testing.T) {
	for name, tc := range map[string]struct {
		rules s3test.Rules
		want  objectstore.Reason
	}{
		"another region": {s3test.Rules{Region: "eu-central-1"}, objectstore.RegionMismatch},
		"redirect":       {s3test.Rules{Region: "eu-central-1", Redirect: true}, objectstore.EndpointMismatch},
		"no token":       {s3test.Rules{Token: "t"}, objectstore.CredentialsRefused},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := openStrict(t, s3test.NewStrict(t, tc.rules, nil), nil).Stat(t.Context(), "ns/t/x")
			if got := objectstore.CauseOf(err).Reason; err == nil || got != tc.want {
				t.Errorf("reason %q, want %q: %v", got, tc.want, err)
			}
		})
	}
	if _, err := openStrict(t, s3test.NewStrict(t, s3test.Rules{}, nil), nil).Stat(t.Context(),
		"ns/t/x"); !errors.Is(err, objectstore.ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
}
