package capture

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caly-dev/caly/internal/objectstore"
	"github.com/caly-dev/caly/internal/reason"
	"github.com/caly-dev/caly/internal/testkit/eventually"
	"github.com/caly-dev/caly/internal/testkit/s3test"
)

// strict has the pods of a rig capture into a store that enforces what Amazon documents.
func (r *rig) strict(rules s3test.Rules, options objectstore.Options) *s3test.Strict {
	r.t.Helper()
	s := s3test.NewStrict(r.t, rules, nil)
	r.config = storageConfig{
		Endpoint: s.URL,
		Region:   "us-east-1",
		Bucket:   s.Bucket,
		Key:      s.AccessKey,
		Secret:   s.SecretKey,
		Token:    rules.Token,
		Options:  options,
	}
	if rules.Region != "" {
		r.config.Region = rules.Region
	}
	return s
}

// keyOf is the key of a call's capture.
func keyOf(c *call, callSID string) string {
	return acme + "/" + callSID + "/capture-" + c.session + ".wav"
}

const (
	shortCall = 5 * time.Second
	longCall  = 70 * time.Second // two parts
)

// TestStrictStore captures a call of one part and one of two into buckets that enforce rules.
func TestStrictStore(t *testing.T) {
	sha := objectstore.Options{Checksum: objectstore.ChecksumSHA256}
	crc := objectstore.Options{Checksum: objectstore.ChecksumCRC64NVME}
	md := objectstore.Options{Checksum: objectstore.ChecksumMD5}
	none := objectstore.Options{Checksum: objectstore.ChecksumNone}
	etag := objectstore.Options{Checksum: objectstore.ChecksumETag}
	for name, tc := range map[string]struct {
		rules   s3test.Rules
		options objectstore.Options
		want    map[string]string
	}{
		"unknown checksum":         {s3test.Rules{}, objectstore.Options{}, nil},
		"SHA-256":                  {s3test.Rules{}, sha, nil},
		"CRC64NVME":                {s3test.Rules{NoSHA256: true}, crc, nil},
		"MD5":                      {s3test.Rules{NoSHA256: true, NoCRC64: true}, md, nil},
		"ETag":                     {s3test.Rules{BlindParts: true}, etag, nil},
		"other ETags":              {s3test.Rules{OpaqueETags: true}, none, nil},
		"other ETags of parts":     {s3test.Rules{OpaquePartETags: true}, none, nil},
		"Object Lock, SHA-256":     {s3test.Rules{Lock: true}, sha, nil},
		"Object Lock, CRC64NVME":   {s3test.Rules{Lock: true, NoSHA256: true}, crc, nil},
		"Object Lock, MD5":         {s3test.Rules{Lock: true, NoSHA256: true, NoCRC64: true}, md, nil},
		"versions":                 {s3test.Rules{Versioned: true}, sha, nil},
		"another region":           {s3test.Rules{Region: "ap-south-1"}, sha, nil},
		"a session token":          {s3test.Rules{Token: "FwoGZXIvYXdzE"}, sha, nil},
		"the key must not delete":  {s3test.Rules{NoDelete: true}, sha, nil},
		"no multi-object deletion": {s3test.Rules{NoMultiDelete: true}, sha, nil},
		"SSE-S3 by policy": {s3test.Rules{Encryption: "AES256"},
			objectstore.Options{Checksum: objectstore.ChecksumSHA256, Encryption: objectstore.EncryptionS3},
			map[string]string{"X-Amz-Server-Side-Encryption": "AES256"}},
		"SSE-KMS by policy": {s3test.Rules{Encryption: "aws:kms", KMSKey: "arn:aws:kms:k"},
			objectstore.Options{
				Checksum:   objectstore.ChecksumSHA256,
				Encryption: objectstore.EncryptionKMS,
				KMSKeyID:   "arn:aws:kms:k",
			}, nil},
		"a storage class and tags": {s3test.Rules{StorageClasses: []string{"STANDARD_IA"}},
			objectstore.Options{
				Checksum:     objectstore.ChecksumSHA256,
				StorageClass: "STANDARD_IA",
				Tags:         map[string]string{"team": "voice"},
			},
			map[string]string{"X-Amz-Storage-Class": "STANDARD_IA", "X-Amz-Tagging": "team=voice"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rig := newRig(t)
			strict := rig.strict(tc.rules, tc.options)
			pod := rig.pod("one", t.TempDir(), nil)
			for sid, length := range map[string]time.Duration{"short": shortCall, "long": longCall} {
				call := pod.call(acme, sid)
				call.talk(length)
				call.End()
				want := call.file(nil)
				known := tc.options.Checksum
				readBack := known == "" || known == objectstore.ChecksumNone
				rig.settled(call.session, row{
					State:  "uploaded",
					Size:   int64(len(want)),
					Digest: length == shortCall || readBack,
				})
				strictObject, _ := strict.Object(keyOf(call, sid))
				rig.same(strictObject.Data, want)
				for header, want := range tc.want {
					if got := strictObject.Header.Get(header); got != want {
						t.Errorf("%s: %s is %q, want %q", sid, header, got, want)
					}
				}
				wantDuration := map[string]string{"short": "5.0"}[sid] // the long one began before its end
				if got := strictObject.Header.Get("X-Amz-Meta-Duration"); got != wantDuration {
					t.Errorf("%s: duration %q, want %q", sid, got, wantDuration)
				}
				if got := strictObject.Header.Get("X-Amz-Meta-Call-Sid"); got != sid || strictObject.Versions != 1 {
					t.Errorf("%s: call-sid %q, %d versions", sid, got, strictObject.Versions)
				}
			}
			if n := strict.Uploads(); n != 0 {
				t.Errorf("%d uploads in parts are left", n)
			}
			rig.spoolEmpty(pod)
		})
	}
}

// TestStrictRefusals has a bucket refuse for a while, as it does until a person acts. The capture arrives after that.
func TestStrictRefusals(t *testing.T) {
	refuse := func(status int, code, message string) func(*s3test.Rules) {
		return func(r *s3test.Rules) {
			r.Refuse = func(*http.Request) *s3test.Refusal {
				return &s3test.Refusal{Status: status, Code: code, Message: message}
			}
		}
	}
	for name, tc := range map[string]struct {
		refuse func(*s3test.Rules)
	}{
		"quota":     {refuse(403, "QuotaExceeded", "Your request was denied due to quota exceeded.")},
		"no bucket": {refuse(404, "NoSuchBucket", "The specified bucket does not exist")},
		"clock":     {func(r *s3test.Rules) { r.Skew = time.Hour }},
		"region":    {func(r *s3test.Rules) { r.Region = "eu-west-1" }},
		"redirect": {func(r *s3test.Rules) {
			r.Region = "eu-west-1"
			r.Redirect = true
		}},
		"encryption":       {func(r *s3test.Rules) { r.Encryption = "aws:kms" }},
		"virtual host":     {func(r *s3test.Rules) { r.VirtualHost = true }},
		"expired token":    {func(r *s3test.Rules) { r.Token = "another" }},
		"too many at once": {refuse(503, "SlowDown", "Please reduce your request rate.")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rig := newRig(t)
			strict := rig.strict(s3test.Rules{}, objectstore.Options{Checksum: objectstore.ChecksumSHA256})
			strict.SetRules(tc.refuse)
			pod := rig.pod("one", t.TempDir(), func(o *Options) { o.FinishWithin = 300 * time.Millisecond })
			short := pod.call(acme, "short")
			long := pod.call(acme, "long")
			short.talk(shortCall)
			short.End()
			long.talk(longCall)
			long.End()
			eventually.Within(patience).Holds(rig.t, "they wait", func() bool {
				live, waiting := pod.count()
				return live == 0 && waiting == 2
			})
			strict.SetRules(func(r *s3test.Rules) { *r = s3test.Rules{Region: "us-east-1"} })
			for c, sid := range map[*call]string{short: "short", long: "long"} {
				want := c.file(nil)
				rig.settled(c.session, row{State: "uploaded", Size: int64(len(want)), Digest: c == short})
				strictObject, _ := strict.Object(keyOf(c, sid))
				rig.same(strictObject.Data, want)
			}
			if n := strict.Uploads(); n != 0 {
				t.Errorf("%d uploads in parts are left", n)
			}
		})
	}
}

// TestStrictGivesUp has a bucket refuse for ever. The row says what is wrong and what to do.
func TestStrictGivesUp(t *testing.T) {
	rig := newRig(t)
	rig.strict(s3test.Rules{
		Encryption: "AES256",
		Refuse: func(*http.Request) *s3test.Refusal {
			return &s3test.Refusal{Status: 403, Code: "QuotaExceeded", Message: "Quota exceeded."}
		},
	}, objectstore.Options{Checksum: objectstore.ChecksumSHA256})
	pod := rig.pod("one", t.TempDir(), func(o *Options) {
		o.FinishWithin = 100 * time.Millisecond
		o.GiveUpAfter = time.Millisecond
	})
	call := pod.call(acme, "short")
	call.talk(shortCall)
	call.End()
	rig.settled(call.session, row{State: "failed", Code: reason.StorageFailed})
	rig.spoolEmpty(pod)
}

// TestChangedPart has a part be changed on its way to a bucket that verifies nothing. The ETag shows it, and the part
// is sent again.
func TestChangedPart(t *testing.T) {
	rig := newRig(t)
	strict := rig.strict(s3test.Rules{BlindMD5: true}, objectstore.Options{Checksum: objectstore.ChecksumETag})
	var changed atomic.Int32
	rig.config.Endpoint = s3test.NewProxy(t, &s3test.Server{Endpoint: strict.URL}, func(q *http.Request) s3test.Fault {
		if isPart(q) && strings.Contains(q.URL.RawQuery, "partNumber=2") && changed.Add(1) == 1 {
			return s3test.Corrupt
		}
		return s3test.Pass
	}).URL
	pod := rig.pod("one", t.TempDir(), nil)
	call := pod.call(acme, "long")
	call.talk(longCall)
	call.End()
	want := call.file(nil)
	rig.settled(call.session, row{State: "uploaded", Size: int64(len(want))})
	strictObject, _ := strict.Object(keyOf(call, "long"))
	rig.same(strictObject.Data, want)
	if changed.Load() < 2 {
		t.Errorf("the part was sent %d times", changed.Load())
	}
}
