package capture

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/caly-dev/caly/internal/objectstore"
	"github.com/caly-dev/caly/internal/reason"
	"github.com/caly-dev/caly/internal/store"
)

// A store whose checksum is None verifies no part, and its ETags say nothing. Only the object itself proves what it
// has. The digest of each part is noted when the part is sent, since the disk does not keep the part. The object is
// read back part by part, so a request that fails costs one part.

// sumsName is the file with the digests of parts, one after another, for a process after this one.
const sumsName = "sums"

// sum is the SHA-256 of a part; zero if it is unknown.
type sum [sha256.Size]byte

// comparison is how far an object was read back.
type comparison struct {
	// parts that were compared, and the digest of all of them.
	parts int
	whole hash.Hash
	// unknown is how many of them have no digest to be compared with, and were not read.
	unknown int
}

// errDiffers is the error of an object that is not what was sent.
var errDiffers = errors.New("the bucket has other bytes than were sent")

// unverified reports whether the bucket has verified no part of the capture.
func (t *tape) unverified(b *objectstore.Bucket) bool {
	etags := t.m.Checksum == objectstore.ChecksumETag && b.Checksum() == objectstore.ChecksumETag
	return !t.m.Checksum.Sent() && !etags
}

// noteSum notes the digest of a part that was sent. Without the file a process after this one does not compare it: a
// full disk must not keep its capture from leaving it.
func (t *tape) noteSum(number int) error {
	s, err := t.sumOnDisk(number)
	if err != nil {
		return err
	}
	if t.sums == nil {
		t.sums = map[int]sum{}
	}
	t.sums[number] = s
	if file, err := os.OpenFile(filepath.Join(t.spool.dir, sumsName), os.O_CREATE|os.O_WRONLY, 0o600); err == nil {
		_, _ = file.WriteAt(s[:], int64(number-1)*sha256.Size)
		_ = file.Close()
	}
	return nil
}

// restoreSums reads the digests that a process before this one has noted.
func (t *tape) restoreSums() {
	data, err := os.ReadFile(filepath.Join(t.spool.dir, sumsName))
	if err != nil || len(data) > objectstore.MaxParts*sha256.Size {
		return
	}
	t.sums = map[int]sum{}
	for number := 1; len(data) >= sha256.Size; number++ {
		if s := sum(data[:sha256.Size]); s != (sum{}) {
			t.sums[number] = s
		}
		data = data[sha256.Size:]
	}
}

// sumOnDisk returns size and digests of a segment on disk.
func (t *tape) sumOnDisk(number int) (s sum, err error) {
	file, err := os.Open(t.spool.segment(number))
	if err != nil {
		return s, err
	}
	defer func() { _ = file.Close() }()
	hash := sha256.New()
	_, err = io.Copy(hash, file)
	return sum(hash.Sum(nil)), err
}

// sumOf returns the digest of a part as it was sent last; zero if it is unknown.
func (t *tape) sumOf(number int) sum {
	if s, err := t.sumOnDisk(number); err == nil {
		return s
	}
	return t.sums[number]
}

// messageUnverified is that of a capture with parts that could not be compared.
const messageUnverified = "the bucket verifies no checksum, and the digests of what was sent were lost with a pod " +
	"or its disk: of some parts only the length was compared"

// compare reads the object back and compares each part that has a digest. It goes on where an earlier call has failed.
// It returns the SHA-256 of the object, empty if a part has no digest: then only the length of that part was compared.
func (t *tape) compare(ctx context.Context, b *objectstore.Bucket) (sha string, err error) {
	if t.compared == nil {
		t.compared = &comparison{whole: sha256.New()}
	}
	c := t.compared
	for from := int64(c.parts) * partSize; from < t.m.Size; from = int64(c.parts) * partSize {
		if err := t.comparePart(ctx, b, from); err != nil {
			return "", err
		}
	}
	if c.unknown > 0 {
		return "", nil
	}
	return hex.EncodeToString(c.whole.Sum(nil)), nil
}

// readAgainAfter is the time between two reads of a part.
const readAgainAfter = 2 * time.Second

// comparePart compares the next part. A part that differs is read again over another connection, since the path from
// the bucket may have changed it: the second time decides.
func (t *tape) comparePart(ctx context.Context, b *objectstore.Bucket, from int64) error {
	comparison := t.compared
	number := comparison.parts + 1
	want := t.sumOf(number)
	if want == (sum{}) { // without it nothing is learned from the part
		comparison.parts = number
		comparison.unknown++
		return nil
	}
	whole, got, err := t.readPart(ctx, b, from)
	if err == nil && got != want {
		t.c.o.Log.Warn("a part of a capture was read back with other bytes than were sent; it is read again",
			"tenant", t.m.Tenant,
			"session", t.m.Session,
			"call", t.m.CallSID,
			"part", number,
			"after", readAgainAfter,
		)
		if !pause(ctx, readAgainAfter, nil) {
			return ctx.Err()
		}
		t.c.transport.CloseIdleConnections()
		whole, got, err = t.readPart(ctx, b, from)
	}
	switch {
	case err != nil:
		return fmt.Errorf("read part %d of the object back: %w", number, err)
	case got != want:
		t.compared = nil
		return fmt.Errorf("%w: in part %d", errDiffers, number)
	}
	comparison.whole = whole
	comparison.parts = number
	return nil
}

// readPart returns the digest of a part of the object, and that of the object to the end of the part.
func (t *tape) readPart(ctx context.Context, b *objectstore.Bucket, from int64) (whole hash.Hash, part sum, err error) {
	size := min(partSize, t.m.Size-from)
	err = t.request(ctx, func(ctx context.Context) error { // which may be called again
		before, err := t.compared.whole.(hash.Cloner).Clone() // those of crypto/sha256 are Cloners
		if err != nil {
			return err
		}
		h := sha256.New()
		if err := b.ReadRange(ctx, t.m.Key, from, size, io.MultiWriter(before, h)); err != nil {
			return err
		}
		whole = before
		part = sum(h.Sum(nil))
		return nil
	})
	return whole, part, err
}

// differs ends a capture whose object is not what was sent, or sends it again if all of it is still on the disk.
func (t *tape) differs(ctx context.Context, b *objectstore.Bucket, err error) error {
	if t.onDisk() {
		t.m.UploadID = ""
		return fmt.Errorf("%w; it is sent again", err)
	}
	t.decide(reason.StorageMismatch, fmt.Sprintf("%v, and they are no longer on the disk; use a store that verifies "+
		"checksums, or find out what changes objects on their way", err))
	return t.endFailed(ctx, b)
}

// endFailed ends a capture that has failed, as decide has noted. An object with other bytes is removed first.
func (t *tape) endFailed(ctx context.Context, b *objectstore.Bucket) error {
	if t.m.Code == reason.StorageMismatch {
		removed := t.request(ctx, func(ctx context.Context) error { return b.Remove(ctx, t.m.Key) })
		if removed != nil && objectstore.CauseOf(removed).Reason == "" {
			return fmt.Errorf("remove the object that is not what was sent: %w", removed)
		}
	}
	return t.giveUp(ctx, t.m.Code, t.m.Message)
}

// joined returns two messages as one.
func joined(first, second string) string {
	if first == "" {
		return second
	}
	return first + "; " + second
}

// warnUnverified logs that a capture is in its bucket and was not compared in full.
func (c *Captures) warnUnverified(ref store.CaptureRef, session string) {
	c.o.Log.Warn("a capture is uploaded and was not compared in full", "tenant", ref.Tenant, "session", session,
		"reason", messageUnverified)
}

// onDisk reports whether all parts still are.
func (t *tape) onDisk() bool {
	for n := 1; int64(n-1)*partSize < t.m.Size; n++ {
		if !t.spool.has(n) {
			return false
		}
	}
	return true
}
