package objectstore_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/caly-dev/caly/internal/objectstore"
	"github.com/caly-dev/caly/internal/testkit/s3test"
)

// TestParts verifies an upload by parts in any order. When a part is sent twice, the last one counts.
func TestParts(t *testing.T) {
	_, config := newStore(t)
	b := open(t, config, nil)
	ctx := t.Context()
	const key = "ns/t/a.wav"
	first := audio(objectstore.PartSize)
	last := []byte("the rest")
	id, err := b.BeginUpload(ctx, objectstore.Object{Key: key, ContentType: "audio/wav"})
	if err != nil {
		t.Fatal(err)
	}
	put := func(n int, data []byte) {
		t.Helper()
		if err := b.PutPart(ctx, objectstore.NewPart{
			Key:      key,
			UploadID: id,
			Begun:    b.Checksum(),
			Number:   n,
			Body:     bytes.NewReader(data),
			Size:     int64(len(data)),
		}); err != nil {
			t.Fatal(err)
		}
	}
	put(2, last)
	put(1, audio(objectstore.PartSize))
	first[0] ^= 1
	put(1, first)
	if ids, err := b.Uploads(ctx, key); err != nil || len(ids) != 1 || ids[0] != id {
		t.Errorf("uploads %v, %v", ids, err)
	}
	if ids, err := b.Uploads(ctx, "ns/t/a"); err != nil || len(ids) != 0 {
		t.Errorf("uploads of another key: %v, %v", ids, err)
	}
	parts, err := b.Parts(ctx, key, id)
	want := []objectstore.Part{{Number: 1, Size: objectstore.PartSize}, {Number: 2, Size: int64(len(last))}}
	if diff := cmp.Diff(want, parts, cmpopts.IgnoreFields(objectstore.Part{}, "ETag")); err != nil || diff != "" {
		t.Fatalf("parts: %v (-want +got):\n%s", err, diff)
	}
	if err := b.CompleteUpload(ctx, key, id, parts); err != nil {
		t.Fatal(err)
	}
	if head, err := b.Head(ctx, key, 8); err != nil || !bytes.Equal(head, first[:8]) {
		t.Errorf("it begins %x, %v", head, err)
	}
	if info, err := b.Stat(ctx, key); err != nil || info.Size != objectstore.PartSize+int64(len(last)) ||
		!info.Multipart {
		t.Errorf("the object: %+v, %v", info, err)
	}
	for name, err := range map[string]error{
		"a part": b.PutPart(ctx, objectstore.NewPart{
			Key:      key,
			UploadID: id,
			Begun:    b.Checksum(),
			Number:   3,
			Body:     bytes.NewReader(last),
			Size:     int64(len(last)),
		}),
		"its parts":  second(b.Parts(ctx, key, id)),
		"of no such": second(b.Parts(ctx, key, "00000000-0000-0000-0000-000000000000")),
	} {
		if !errors.Is(err, objectstore.ErrNoUpload) {
			t.Errorf("after its end, %s: %v", name, err)
		}
	}
	if err := b.AbortUpload(ctx, key, id); err != nil {
		t.Errorf("an abort after the end: %v", err)
	}
	if _, err := b.Head(ctx, "ns/t/none", 8); !errors.Is(err, objectstore.ErrNotFound) {
		t.Errorf("no object: %v", err)
	}
}

func second(_ []objectstore.Part, err error) error { return err }

// TestPartFaults verifies that a part that was changed on its way is an error, and that a failed part can be sent
// again.
func TestPartFaults(t *testing.T) {
	server, config := newStore(t)
	faults := []s3test.Fault{s3test.Corrupt, s3test.Refuse, s3test.CutAnswer}
	n := 0
	proxy := s3test.NewProxy(t, server, func(r *http.Request) s3test.Fault {
		if r.Method != http.MethodPut || n == len(faults) {
			return s3test.Pass
		}
		n++
		return faults[n-1]
	})
	b := open(t, config, func(c *objectstore.Config) { c.Endpoint = proxy.URL })
	id, err := b.BeginUpload(t.Context(), objectstore.Object{Key: "ns/t/a", ContentType: "audio/wav"})
	if err != nil {
		t.Fatal(err)
	}
	data := audio(10_000)
	for i := range faults {
		if err := b.PutPart(t.Context(), objectstore.NewPart{
			Key:      "ns/t/a",
			UploadID: id,
			Begun:    b.Checksum(),
			Number:   1,
			Body:     bytes.NewReader(data),
			Size:     int64(len(data)),
		}); err == nil {
			t.Errorf("fault %d: no error", i)
		}
	}
	if err := b.PutPart(t.Context(), objectstore.NewPart{
		Key:      "ns/t/a",
		UploadID: id,
		Begun:    b.Checksum(),
		Number:   1,
		Body:     bytes.NewReader(data),
		Size:     int64(len(data)),
	}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.AbortUpload(ctx, "ns/t/a", id); err != nil { // although its context is over
		t.Error(err)
	}
	if left := unfinished(t, server, config.Bucket); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}
