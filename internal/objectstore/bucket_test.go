package objectstore_test

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/minio/minio-go/v7"
	"go.uber.org/goleak"

	"github.com/caly-dev/caly/internal/objectstore"
	"github.com/caly-dev/caly/internal/resilience"
	"github.com/caly-dev/caly/internal/testkit/s3test"
)

func TestMain(m *testing.M) {
	objectstore.SetBeginAgainAfter(10 * time.Millisecond)
	os.Exit(m.Run())
}

// loopback allows the stores of tests.
var loopback = objectstore.Policy{AllowHTTP: true, AllowedCIDRs: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}

// newStore returns a server of its own, and how to reach a bucket on it.
func newStore(t *testing.T) (*s3test.Server, objectstore.Config) {
	t.Helper()
	server := s3test.New(t)
	return server, objectstore.Config{
		Endpoint:        server.Endpoint,
		Region:          server.Region,
		AccessKeyID:     server.AccessKey,
		SecretAccessKey: server.SecretKey,
		Bucket:          server.NewBucket(t),
	}
}

// open returns the bucket; change may change how it is reached.
func open(t *testing.T, config objectstore.Config, change func(*objectstore.Config)) *objectstore.Bucket {
	t.Helper()
	if change != nil {
		change(&config)
	}
	transport := objectstore.NewTransport(loopback, 8)
	t.Cleanup(transport.CloseIdleConnections)
	b, err := objectstore.New(config, transport)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func unfinished(t *testing.T, server *s3test.Server, bucket string) []minio.ObjectMultipartInfo {
	t.Helper()
	page, err := server.Admin(t).ListMultipartUploads(t.Context(), bucket, "", "", "", "", 100)
	if err != nil {
		t.Fatal(err)
	}
	return page.Uploads
}

func audio(n int) []byte {
	b := make([]byte, n)
	chaCha8 := rand.NewChaCha8([32]byte{7})
	_, _ = chaCha8.Read(b)
	return b
}

func md5hex(b []byte) string {
	sum := md5.Sum(b)
	return hex.EncodeToString(sum[:])
}

// onlyReader hides every method but Read, as a network stream does.
type onlyReader struct{ io.Reader }

func TestPut(t *testing.T) {
	server, config := newStore(t)
	b := open(t, config, nil)
	part := objectstore.PartSize
	tests := map[string]struct {
		size          int
		unknown       bool
		wantMultipart bool
	}{
		"known length, small":                  {size: 1000},
		"known length, over one part":          {size: part + 1},
		"unknown length, empty":                {size: 0, unknown: true},
		"unknown length, within one part":      {size: part - 1, unknown: true},
		"unknown length, exactly one part":     {size: part, unknown: true, wantMultipart: true},
		"unknown length, a byte over one part": {size: part + 1, unknown: true, wantMultipart: true},
		"unknown length, exactly two parts":    {size: 2 * part, unknown: true, wantMultipart: true},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			data := audio(tc.size)
			size := int64(tc.size)
			if tc.unknown {
				size = -1
			}
			etag, err := b.Put(t.Context(), objectstore.Object{
				Key:         "ns/t/" + name,
				Body:        onlyReader{bytes.NewReader(data)},
				Size:        size,
				ContentType: "audio/mpeg",
			})
			if err != nil {
				t.Fatal(err)
			}
			info, err := b.Stat(t.Context(), "ns/t/"+name)
			if err != nil {
				t.Fatal(err)
			}
			want := objectstore.Info{Size: int64(tc.size), ETag: md5hex(data), Multipart: tc.wantMultipart}
			if tc.wantMultipart {
				partETag := objectstore.NewPartETag()
				_, _ = io.Copy(partETag, bytes.NewReader(data))
				want.ETag = partETag.ETag()
			}
			info.Meta = nil
			if d := cmp.Diff(want, info); d != "" {
				t.Errorf("stat (-want +got):\n%s", d)
			}
			if etag != want.ETag {
				t.Errorf("Put returned ETag %s, want %s", etag, want.ETag)
			}
			body, err := b.Get(t.Context(), "ns/t/"+name)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(body)
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("read back %d bytes, %v; want the %d that were put", len(got), err, len(data))
			}
			_ = body.Close()
		})
	}
	if left := unfinished(t, server, config.Bucket); len(left) != 0 {
		t.Errorf("unfinished uploads: %v", left)
	}
}

// breaking fails after n bytes.
type breaking struct {
	r   io.Reader
	err error
}

func (b breaking) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if errors.Is(err, io.EOF) {
		err = b.err
	}
	return n, err
}

func TestPutBroken(t *testing.T) {
	server, config := newStore(t)
	b := open(t, config, nil)
	broken := errors.New("the source broke off")
	for name, size := range map[string]int64{"known": 3 * objectstore.PartSize, "unknown": -1} {
		t.Run(name, func(t *testing.T) {
			_, err := b.Put(t.Context(), objectstore.Object{
				Key: "ns/t/" + name,
				Body: breaking{bytes.NewReader(audio(2*objectstore.PartSize + 5)),
					broken},
				Size:        size,
				ContentType: "audio/mpeg",
			})
			if !errors.Is(err, broken) {
				t.Errorf("got %v, want the source's error", err)
			}
			// Some stores keep what they got of a broken PUT: it must not look whole.
			if i, err := b.Stat(t.Context(), "ns/t/"+name); !errors.Is(err, objectstore.ErrNotFound) &&
				i.Size != 2*objectstore.PartSize+5 {
				t.Errorf("stat: %v, %v; want ErrNotFound or a part", i, err)
			}
			if err := b.Remove(t.Context(), "ns/t/"+name); err != nil {
				t.Errorf("remove: %v", err)
			}
			if i, err := b.Stat(t.Context(), "ns/t/"+name); !errors.Is(err, objectstore.ErrNotFound) {
				t.Errorf("stat after remove: %v, %v; want ErrNotFound", i, err)
			}
		})
	}
	if left := unfinished(t, server, config.Bucket); len(left) != 0 {
		t.Errorf("unfinished uploads: %v", left)
	}
}

// cancelling ends the context in the middle of the second part.
type cancelling struct {
	r      io.Reader
	left   int
	cancel func()
}

func (c *cancelling) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if c.left -= n; c.left < 0 {
		c.cancel()
	}
	return n, err
}

func TestPutCancelledLeavesNoParts(t *testing.T) {
	server, config := newStore(t)
	b := open(t, config, nil)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	src := &cancelling{bytes.NewReader(audio(3 * objectstore.PartSize)), objectstore.PartSize * 3 / 2, cancel}
	if _, err := b.Put(ctx, objectstore.Object{
		Key:         "ns/t/x",
		Body:        src,
		Size:        -1,
		ContentType: "audio/mpeg",
	}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	if left := unfinished(t, server, config.Bucket); len(left) != 0 {
		t.Errorf("unfinished uploads: %v", left)
	}
}

func TestPutErrors(t *testing.T) {
	_, config := newStore(t)
	wrong := func(key, secret, bucket string) func(*objectstore.Config) {
		return func(c *objectstore.Config) {
			if key != "" {
				c.AccessKeyID = key
			}
			if secret != "" {
				c.SecretAccessKey = secret
			}
			if bucket != "" {
				c.Bucket = bucket
			}
		}
	}
	tests := map[string]struct {
		change     func(*objectstore.Config)
		wantReason objectstore.Reason
		wantClass  resilience.Class
	}{
		"no such bucket": {wrong("", "", "gone"), objectstore.BucketNotFound, resilience.Permanent},
		"unknown key":    {wrong("nobody", "", ""), objectstore.CredentialsRefused, resilience.Permanent},
		"wrong secret":   {wrong("", "wrong", ""), objectstore.CredentialsRefused, resilience.Permanent},
		"nobody listens": {
			func(c *objectstore.Config) { c.Endpoint = "http://127.0.0.1:1" },
			objectstore.EndpointUnreachable,
			resilience.Transient,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			b := open(t, config, tc.change)
			_, err := b.Put(t.Context(), objectstore.Object{
				Key:         "ns/t/x",
				Body:        bytes.NewReader(audio(10)),
				Size:        10,
				ContentType: "audio/mpeg",
			})
			if err == nil || resilience.Classify(err) != tc.wantClass {
				t.Errorf("Put: %v is %v, want %v", err, resilience.Classify(err), tc.wantClass)
			}
			if reason := objectstore.CauseOf(err).Reason; tc.wantReason != objectstore.EndpointUnreachable &&
				reason != tc.wantReason {
				t.Errorf("CauseOf(%v) is %q, want %q", err, reason, tc.wantReason)
			}
			var probe *objectstore.ProbeError
			if err := b.Probe(t.Context()); !errors.As(err, &probe) || probe.Reason != tc.wantReason {
				t.Errorf("Probe: %v, want reason %s", err, tc.wantReason)
			}
		})
	}
	if err := open(t, config, nil).Probe(t.Context()); err != nil {
		t.Errorf("Probe of a good bucket: %v", err)
	}
}

func TestOutage(t *testing.T) {
	server, config := newStore(t)
	b := open(t, config, nil)
	put := func() error {
		_, err := b.Put(t.Context(), objectstore.Object{
			Key:         "ns/t/x",
			Body:        bytes.NewReader(audio(10)),
			Size:        10,
			ContentType: "audio/mpeg",
		})
		return err
	}
	server.Stop(t)
	if err := put(); resilience.Classify(err) != resilience.Transient {
		t.Errorf("while down: %v, want a transient error", err)
	}
	server.Start(t)
	if err := put(); err != nil {
		t.Errorf("back again: %v", err)
	}
}

func TestThrottled(t *testing.T) {
	server, config := newStore(t)
	proxy := s3test.NewProxy(t, server, func(*http.Request) s3test.Fault { return s3test.Refuse })
	b := open(t, config, func(c *objectstore.Config) { c.Endpoint = proxy.URL })
	_, err := b.Put(t.Context(), objectstore.Object{
		Key:         "ns/t/x",
		Body:        bytes.NewReader(audio(10)),
		Size:        10,
		ContentType: "audio/mpeg",
	})
	var answer *resilience.HTTPError
	if !errors.As(err, &answer) || answer.Code != "SlowDown" || resilience.Classify(err) != resilience.Transient {
		t.Errorf("got %v, want SlowDown, transient", err)
	}
}

func TestCleanup(t *testing.T) {
	server, config := newStore(t)
	b := open(t, config, nil)
	for _, key := range []string{"ns/t/1", "ns/t/2", "ns/t2/1"} {
		if _, err := b.Put(t.Context(), objectstore.Object{
			Key:         key,
			Body:        bytes.NewReader(audio(10)),
			Size:        10,
			ContentType: "audio/mpeg",
		}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := server.Admin(t).NewMultipartUpload(
		t.Context(), config.Bucket, "ns/t/3", minio.PutObjectOptions{},
	); err != nil {
		t.Fatal(err)
	}
	if err := b.AbortIncomplete(t.Context(), "ns/t/"); err != nil {
		t.Errorf("AbortIncomplete: %v", err)
	}
	if left := unfinished(t, server, config.Bucket); len(left) != 0 {
		t.Errorf("unfinished uploads: %v", left)
	}
	if n, err := b.DeletePrefix(t.Context(), "ns/t/"); n != 2 || err != nil {
		t.Errorf("DeletePrefix = %d, %v; want 2", n, err)
	}
	if _, err := b.Stat(t.Context(), "ns/t2/1"); err != nil {
		t.Errorf("a neighbour's object is gone: %v", err)
	}
	if _, err := b.DeletePrefix(t.Context(), ""); err == nil {
		t.Error("DeletePrefix of everything was not refused")
	}
	if err := b.AbortIncomplete(t.Context(), ""); err == nil {
		t.Error("AbortIncomplete of everything was not refused")
	}
}

func TestNewRefuses(t *testing.T) {
	for name, c := range map[string]objectstore.Config{
		"no scheme":  {Endpoint: "s3.example.com", Bucket: "b"},
		"a path":     {Endpoint: "https://s3.example.com/x", Bucket: "b"},
		"not http":   {Endpoint: "ftp://s3.example.com", Bucket: "b"},
		"no bucket":  {Endpoint: "https://s3.example.com"},
		"unreadable": {Endpoint: "https://%zz", Bucket: "b"},
	} {
		if _, err := objectstore.New(c, nil); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestNoGoroutineStays(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	server, config := newStore(t)
	transport := objectstore.NewTransport(loopback, 8)
	b, err := objectstore.New(config, transport)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Put(t.Context(), objectstore.Object{
		Key:         "ns/t/x",
		Body:        onlyReader{bytes.NewReader(audio(6 << 20))},
		Size:        -1,
		ContentType: "audio/mpeg",
	}); err != nil {
		t.Fatal(err)
	}
	transport.CloseIdleConnections()
	server.Stop(t)
}
