//go:build interop && stores

package interop

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/caly-dev/caly/internal/objectstore"
	"github.com/caly-dev/caly/internal/testkit/eventually"
	"github.com/caly-dev/caly/internal/testkit/s3test"
)

const (
	storeKey    = "caly-test"
	storeSecret = "only-for-this-test"
)

// seaweed is a SeaweedFS with its S3 gateway.
type seaweed struct{ endpoint string }

func newSeaweed(t *testing.T) *seaweed {
	t.Helper()
	binary := os.Getenv("CALY_WEED")
	if binary == "" {
		t.Fatal("CALY_WEED names no weed: run test/interop/stores.sh, which builds it")
	}
	dir := t.TempDir()
	identity := fmt.Sprintf(`{"identities":[{"name":"caly","credentials":[{"accessKey":%q,"secretKey":%q}],`+
		`"actions":["Admin","Read","Write","List","Tagging"]}]}`, storeKey, storeSecret)
	config := filepath.Join(dir, "s3.json")
	if err := os.WriteFile(config, []byte(identity), 0o600); err != nil {
		t.Fatal(err)
	}
	var ports []any
	for range 4 {
		_, port, err := net.SplitHostPort(free(t))
		if err != nil {
			t.Fatal(err)
		}
		ports = append(ports, port)
	}
	args := fmt.Sprintf("-logdir=%s server -dir=%[1]s -ip=127.0.0.1 -ip.bind=127.0.0.1 -master.port=%s "+
		"-volume.port=%s -filer "+
		"-filer.port=%s -s3 -s3.port=%s -s3.config=%s -volume.max=8 -master.volumeSizeLimitMB=64",
		append(append([]any{dir}, ports...), config)...)
	cmd := exec.Command(binary, strings.Fields(args)...)
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var output bytes.Buffer
	cmd.Stdout = &output
	cmd.Stderr = &output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("SeaweedFS: %.4000s", output.String())
		}
	})
	return &seaweed{endpoint: "http://127.0.0.1:" + ports[3].(string)}
}

// bucket makes one, once the server answers.
func (s *seaweed) bucket(t *testing.T, locked bool) string {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	client, err := minio.New(strings.TrimPrefix(s.endpoint, "http://"),
		&minio.Options{
			Region:    "us-east-1",
			Transport: transport,
			Creds:     credentials.NewStaticV4(storeKey, storeSecret, ""),
		})
	if err != nil {
		t.Fatal(err)
	}
	name := "b-" + strings.ToLower(rand.Text()[:12])
	eventually.Within(time.Minute).Succeeds(t, func(ctx context.Context) error {
		return client.MakeBucket(ctx, name, minio.MakeBucketOptions{ObjectLocking: locked})
	})
	if locked {
		mode := minio.Governance
		days := uint(1)
		unit := minio.Days
		if err := client.SetBucketObjectLockConfig(t.Context(), name, &mode, &days, &unit); err != nil {
			t.Fatal(err)
		}
	}
	return name
}

func (s *seaweed) open(t *testing.T, endpoint, bucket string, change func(*objectstore.Config)) *objectstore.Bucket {
	t.Helper()
	config := objectstore.Config{
		Endpoint:        endpoint,
		Region:          "us-east-1",
		AccessKeyID:     storeKey,
		SecretAccessKey: storeSecret,
		Bucket:          bucket,
	}
	if change != nil {
		change(&config)
	}
	transport := objectstore.NewTransport(objectstore.Policy{
		AllowHTTP:    true,
		AllowedCIDRs: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
	}, 8)
	t.Cleanup(transport.CloseIdleConnections)
	b, err := objectstore.New(config, transport)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestSeaweedFS does with SeaweedFS what the operator and upload pods do: it finds out the checksum, writes objects
// whole and in parts, has changed ones refused, and deletes.
func TestSeaweedFS(t *testing.T) {
	seaweed := newSeaweed(t)
	for name, locked := range map[string]bool{"plain": false, "Object Lock": true} {
		t.Run(name, func(t *testing.T) {
			bucket := seaweed.bucket(t, locked)
			found, err := seaweed.open(t, seaweed.endpoint, bucket, nil).ProbeWrite(t.Context(), "ns/t/.caly-probe")
			if err != nil || !found.Checksum.Sent() || (found.Kept != "") != locked {
				t.Fatalf("found %+v, %v; want a checksum that is verified, and what was written kept: %v", found, err,
					locked)
			}
			t.Logf("checksum %s, kept %q", found.Checksum, found.Kept)
			use := func(c *objectstore.Config) { c.Checksum = found.Checksum }
			b := seaweed.open(t, seaweed.endpoint, bucket, use)
			for _, size := range []int{1, 300_000, objectstore.PartSize + 12345, 2 * objectstore.PartSize} {
				for _, announced := range []int{size, -1} {
					roundTrip(t, b, size, announced)
				}
			}
			changing := s3test.NewProxy(
				t, &s3test.Server{Endpoint: seaweed.endpoint},
				func(r *http.Request) s3test.Fault {
					if r.Method == http.MethodPut {
						return s3test.Corrupt
					}
					return s3test.Pass
				},
			)
			for _, size := range []int{1000, objectstore.PartSize + 1} {
				object := objectstore.Object{
					Key:  "ns/t/changed",
					Body: bytes.NewReader(make([]byte, size)),
					Size: int64(size),
				}
				if _, err := seaweed.open(t, changing.URL, bucket, use).Put(t.Context(), object); err == nil {
					t.Errorf("%d bytes that were changed on their way: no error", size)
				}
			}
			if n, err := b.DeletePrefix(t.Context(), "ns/t/"); err != nil || n == 0 {
				t.Errorf("%d objects deleted, %v", n, err)
			}
			wrong := seaweed.open(
				t, seaweed.endpoint, bucket, func(c *objectstore.Config) { c.SecretAccessKey = "wrong" },
			)
			if err := wrong.Probe(t.Context()); objectstore.CauseOf(err).Reason != objectstore.CredentialsRefused {
				t.Errorf("a wrong secret: %v", err)
			}
			none := seaweed.open(t, seaweed.endpoint, "no-such-bucket", nil)
			if err := none.Probe(t.Context()); objectstore.CauseOf(err).Reason != objectstore.BucketNotFound {
				t.Errorf("no such bucket: %v", err)
			}
		})
	}
}

func roundTrip(t *testing.T, b *objectstore.Bucket, size, announced int) {
	t.Helper()
	data := make([]byte, size)
	_, _ = rand.Read(data)
	body := struct{ io.Reader }{bytes.NewReader(data)}
	_, err := b.Put(t.Context(), objectstore.Object{
		Key:         "ns/t/a.mp3",
		Body:        body,
		Size:        int64(announced),
		ContentType: "audio/mpeg",
		Meta:        map[string]string{"tenant": "ns/t"},
	})
	if err != nil {
		t.Fatalf("size %d, announced %d: %v", size, announced, err)
	}
	readCloser, err := b.Get(context.Background(), "ns/t/a.mp3")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = readCloser.Close() }()
	if got, err := io.ReadAll(readCloser); err != nil || !bytes.Equal(got, data) {
		t.Errorf("size %d, announced %d: read back %d bytes, %v", size, announced, len(got), err)
	}
	if info, err := b.Stat(t.Context(), "ns/t/a.mp3"); err != nil || info.Meta["Tenant"] != "ns/t" {
		t.Errorf("size %d: %+v, %v", size, info, err)
	}
}
