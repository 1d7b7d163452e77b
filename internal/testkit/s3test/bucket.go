package s3test

import (
	"context"
	"io"
	"net/http"
	"testing"

	"github.com/minio/minio-go/v7"
)

// Bucket is a bucket of a server with a client that has every right, and so sees what the store really has.
type Bucket struct {
	*Server
	Name string
	Core *minio.Core
}

// InBucket returns a server with a bucket of its own. The end of the test ends the server.
func InBucket(t testing.TB) *Bucket {
	t.Helper()
	server := New(t)
	return &Bucket{Server: server, Name: server.NewBucket(t), Core: server.Admin(t)}
}

// Object returns the bytes of an object; nil if the bucket does not have it.
func (b *Bucket) Object(t testing.TB, key string) []byte {
	t.Helper()
	body, _, _, err := b.Core.GetObject(outlives(t), b.Name, key, minio.GetObjectOptions{})
	if minio.ToErrorResponse(err).StatusCode == http.StatusNotFound {
		return nil
	}
	if err != nil {
		t.Fatalf("get object %s of bucket %s: %v", key, b.Name, err)
	}
	defer func() { _ = body.Close() }()
	data, err := io.ReadAll(body)
	if err != nil {
		t.Fatalf("read object %s of bucket %s: %v", key, b.Name, err)
	}
	return data
}

// Keys returns the keys of all objects, in order.
func (b *Bucket) Keys(t testing.TB) (keys []string) {
	t.Helper()
	for o := range b.Core.Client.ListObjects(outlives(t), b.Name, minio.ListObjectsOptions{Recursive: true}) {
		if o.Err != nil {
			t.Fatalf("list bucket %s: %v", b.Name, o.Err)
		}
		keys = append(keys, o.Key)
	}
	return keys
}

// Unfinished returns up to 100 multipart uploads that were neither completed nor aborted.
func (b *Bucket) Unfinished(t testing.TB) []minio.ObjectMultipartInfo {
	t.Helper()
	page, err := b.Core.ListMultipartUploads(outlives(t), b.Name, "", "", "", "", 100)
	if err != nil {
		t.Fatalf("list the multipart uploads of bucket %s: %v", b.Name, err)
	}
	return page.Uploads
}

// WantFinished fails the test if the bucket has an unfinished multipart upload.
func (b *Bucket) WantFinished(t testing.TB) {
	t.Helper()
	for _, upload := range b.Unfinished(t) {
		t.Errorf("the multipart upload of %s is not finished", upload.Key)
	}
}

// outlives is a context for cleanups too: the test's own has ended by then.
func outlives(t testing.TB) context.Context { return context.WithoutCancel(t.Context()) }
