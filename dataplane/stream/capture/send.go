package capture

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/caly-dev/caly/internal/objectstore"
	"github.com/caly-dev/caly/internal/store"
)

const contentType = "audio/wav"

// Waits between two tries while a call runs, and right after it.
const (
	firstWait = 500 * time.Millisecond
	maxWait   = 30 * time.Second
)

// send brings the capture to the bucket: what is full while the call runs, the rest after it.
func (s *Capture) send() {
	defer s.c.forget(s)
	s.sendFull()
	t := s.tape
	switch {
	case closed(s.cut):
		t.abandon()
		return
	case !t.opened.Load():
		s.unopened()
		return
	}
	s.c.hold(t)
	ctx, cancel := context.WithTimeout(s.c.ctx, s.c.o.FinishWithin)
	defer cancel()
	for wait := firstWait; ; wait = min(2*wait, maxWait) {
		done, err := t.bring(ctx)
		if done {
			s.c.letGo(t)
			return
		}
		if !pause(ctx, wait, nil) {
			s.c.o.Log.Warn("a capture did not reach its bucket yet; it is tried again", "tenant", t.m.Tenant,
				"session", t.m.Session, "call", t.m.CallSID, "error", objectstore.Detail(err))
			s.c.wait(t)
			return
		}
	}
}

// sendFull sends what is full until the recorder has ended.
func (s *Capture) sendFull() {
	wait := time.Duration(0)
	for {
		select {
		case <-s.recorded:
			return
		case <-s.full:
		}
		err := s.tape.sendFull(s.c.ctx)
		switch {
		case errors.Is(err, errLost):
			s.lose()
		case err != nil:
			wait = min(max(2*wait, firstWait), maxWait)
			s.c.o.Log.Warn("a part of a capture did not reach its bucket; it is tried again", "tenant", s.tape.m.Tenant,
				"session", s.tape.m.Session, "call", s.tape.m.CallSID, "error", objectstore.Detail(err), "after", wait)
			if pause(s.c.ctx, wait, s.recorded) {
				s.poke()
			}
		default:
			wait = 0
		}
	}
}

// lose ends a capture whose row another pod has taken.
func (s *Capture) lose() { s.cutOnce.Do(func() { close(s.cut) }) }

// closed tells whether a channel is.
func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// unopened ends a capture that has nothing: of a stream without a start or audio, or one for which there was no place.
func (s *Capture) unopened() {
	code, message := s.tape.shortened()
	if code == "" {
		s.c.m.ended(outcomeEmpty)
		return
	}
	_ = s.tape.spool.remove()
	s.c.m.ended(outcomeFailed)
	ctx, cancel := context.WithTimeout(s.c.ctx, refuseWithin)
	defer cancel()
	if err := s.c.o.Store.RefuseCapture(ctx, s.tape.m.row(s.c.o.Pod), code, message); err != nil {
		s.c.o.Log.Warn("a call was not captured, and no row tells of it",
			"tenant", s.tape.m.Tenant,
			"session", s.tape.m.Session,
			"call", s.tape.m.CallSID,
			"code", code,
			"error", err,
		)
	}
}

// pause waits; false if the context was over before. early ends it too.
func pause(ctx context.Context, d time.Duration, early <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-early:
	case <-timer.C:
	}
	return true
}

// sendFull sends the segments that are full.
func (t *tape) sendFull(ctx context.Context) error {
	if !t.opened.Load() {
		return nil
	}
	if err := t.ensureRow(ctx); err != nil {
		return err
	}
	for t.sent < t.spool.full() {
		b, err := t.bucket()
		if err != nil {
			return err
		}
		if err := t.ensureUpload(ctx, b); err != nil {
			return err
		}
		if err := t.sendPart(ctx, b, t.sent+1); err != nil {
			return err
		}
		t.sent++
		if t.sent > 1 {
			t.spool.drop(t.sent)
		}
	}
	return nil
}

// ensureUpload begins the upload in parts, and has the row know it.
func (t *tape) ensureUpload(ctx context.Context, b *objectstore.Bucket) error {
	if t.m.UploadID == "" {
		if err := t.beginUpload(ctx, b); err != nil {
			return fmt.Errorf("begin the upload in parts: %w", err)
		}
	}
	if t.noted {
		return nil
	}
	err := t.c.o.Store.SetCaptureUpload(ctx, t.m.ref(), t.c.o.Pod, t.m.UploadID)
	if errors.Is(err, store.ErrLeaseLost) {
		_ = b.AbortUpload(ctx, t.m.Key, t.m.UploadID) // the pod that has the row looks for it by its key too
		return errLost
	}
	t.noted = err == nil
	return err
}

// beginUpload has the disk know of it first.
func (t *tape) beginUpload(ctx context.Context, b *objectstore.Bucket) error {
	before := t.m.Doubt
	t.m.Doubt = true
	_ = t.save() // a full disk must not keep its capture from leaving it
	err := t.request(ctx, func(ctx context.Context) (err error) {
		t.m.UploadID, err = b.BeginUpload(ctx, t.m.object())
		return err
	})
	if err != nil {
		return err
	}
	t.m.Checksum = b.Checksum()
	t.m.Doubt = before
	t.noted = false
	_ = t.save() // without it the key tells of the upload
	return nil
}

// abortOthers ends the uploads of the key that nobody knows of.
func (t *tape) abortOthers(ctx context.Context, b *objectstore.Bucket) error {
	if !t.m.Doubt {
		return nil
	}
	var ids []string
	err := t.request(ctx, func(ctx context.Context) (err error) {
		ids, err = b.Uploads(ctx, t.m.Key)
		return err
	})
	if err != nil &&
		objectstore.CauseOf(err).Reason == "" { // a key that may not list leaves them to the bucket's rules
		return err
	}
	for _, id := range ids {
		if err := t.request(
			ctx, func(ctx context.Context) error { return b.AbortUpload(ctx, t.m.Key, id) },
		); err != nil {
			return err
		}
	}
	return nil
}

// sendPart uploads one segment as the part of this number.
func (t *tape) sendPart(ctx context.Context, b *objectstore.Bucket, number int) error {
	file, err := os.Open(t.spool.segment(number))
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	err = t.request(ctx, func(ctx context.Context) error {
		return b.PutPart(ctx, objectstore.NewPart{
			Key:      t.m.Key,
			UploadID: t.m.UploadID,
			Begun:    t.m.Checksum,
			Number:   number,
			Body:     file,
			Size:     info.Size(),
		})
	})
	if err != nil {
		return fmt.Errorf("send part %d: %w", number, err)
	}
	if t.unverified(b) {
		return t.noteSum(number)
	}
	return nil
}
