package capture

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caly-dev/caly/internal/objectstore"
	"github.com/caly-dev/caly/internal/reason"
	"github.com/caly-dev/caly/internal/recording"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/wav"
)

const metaName = "meta.json"

// errLost means that another pod has the capture now, or that the capture was ended.
var errLost = errors.New("another pod has the capture now, or it was ended")

// meta is what a process after this one must know of a capture on disk. It holds no secret.
type meta struct {
	Tenant   string `json:"tenant"`
	ID       string `json:"id"`
	Session  string `json:"session"`
	CallSID  string `json:"callSid"`
	Bucket   string `json:"bucket"`
	Key      string `json:"key"`
	UploadID string `json:"uploadId,omitempty"`
	// Checksum of the upload's parts.
	Checksum objectstore.Checksum `json:"checksum,omitempty"`
	Created  time.Time            `json:"created"`
	Rate     int                  `json:"rate"`
	// Rowed reports whether the capture's row was written.
	Rowed bool `json:"rowed,omitempty"`
	// Doubt that no other upload in parts of the key was begun: the answer to one was not seen.
	Doubt bool `json:"doubt,omitempty"`
	// Size of the whole file in bytes, once the call has ended.
	Size int64 `json:"size,omitempty"`
	// Ended is when.
	Ended time.Time `json:"ended,omitzero"`
	// Failed means that the capture has failed: what is left to do is to remove it and to write its row's end.
	Failed bool `json:"failed,omitempty"`
	// Code and Message say why it ended before its call, or failed.
	Code    string `json:"code,omitempty"`
	Message string `json:"message,omitempty"`
}

// object is what the bucket is told of the capture.
func (m *meta) object() objectstore.Object {
	meta := map[string]string{
		"tenant":       m.Tenant,
		"call-sid":     m.CallSID,
		"recording-id": m.ID,
		"started-at":   m.Created.UTC().Format(time.RFC3339),
	}
	if m.Rate > 0 && m.Size > wav.HeaderSize { // the call has ended
		meta["duration"] = strconv.FormatFloat(float64(m.Size-wav.HeaderSize)/float64(frame*m.Rate), 'f', 1, 64)
	}
	return objectstore.Object{Key: m.Key, ContentType: contentType, Size: m.Size, Meta: meta}
}

// ref returns the key of the capture's row.
func (m *meta) ref() store.CaptureRef { return store.CaptureRef{Tenant: m.Tenant, ID: m.ID} }

func (m *meta) row(pod string) store.Capture {
	return store.Capture{
		CaptureRef: m.ref(),
		Session:    m.Session,
		CallSID:    m.CallSID,
		Pod:        pod,
		Bucket:     m.Bucket,
		Key:        m.Key,
		CreatedAt:  m.Created,
	}
}

// tape is a capture on its way from the disk to the bucket. Once its call has ended one goroutine has it at a time.
type tape struct {
	c     *Captures
	m     meta // the sender's alone, once open
	spool *spool
	// storage is the newest one of the tape's bucket that the pod knows; nil if it never knew one.
	storage atomic.Pointer[tenantconfig.Storage]
	opened  atomic.Bool // there is something on disk
	rowed   atomic.Bool // it has a row, in this pod's name
	checked bool        // it was looked whether that is so still
	noted   bool        // the row knows the upload
	sent    int         // segments
	// sums are the digests of parts that no store has verified, and compared is how far they were read back.
	sums     map[int]sum
	compared *comparison

	mu  sync.Mutex
	why error // it ended before its call did
}

func newTape(c *Captures, t *tenantconfig.Tenant, session string) *tape {
	id := recording.CaptureID(session)
	tp := &tape{c: c, m: meta{Tenant: t.ID, ID: id, Session: session, Bucket: t.Storage.Bucket, Created: time.Now()}}
	tp.storage.Store(t.Storage)
	tp.m.Key = t.Audio.Capture.KeyTemplate // made a key when the call is known
	tp.spool = &spool{dir: filepath.Join(c.o.Dir, spoolName(id)), tenant: t.ID, budget: c.budget}
	return tp
}

func spoolName(id string) string { return "capture-" + id }

// open makes the place on disk.
func (t *tape) open(callSID string, rate int) error {
	t.m.CallSID = store.BoundedSID(callSID)
	t.m.Rate = rate
	key, err := recording.CaptureKey(t.m.Tenant, t.m.Key, recording.KeyInput{
		CallSID:     callSID,
		RecordingID: t.m.Session,
		Queued:      t.m.Created,
	})
	if err != nil {
		return &refusedKey{err}
	}
	t.m.Key = key
	if !t.spool.charge(leastCharge) {
		return errSpoolFull
	}
	if err := os.Mkdir(t.spool.dir, 0o700); err != nil {
		return err
	}
	if err := t.save(); err != nil {
		return err
	}
	t.opened.Store(true)
	return nil
}

type refusedKey struct{ error }

// save writes what a process after this one must know.
func (t *tape) save() error {
	data, err := json.Marshal(t.m)
	if err != nil {
		return err
	}
	path := filepath.Join(t.spool.dir, metaName)
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// cutShort notes why the capture ended before its call. The first reason counts.
func (t *tape) cutShort(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.why == nil {
		t.why = err
	}
}

// shortened returns why the capture misses audio at its end, or empty strings if it is whole.
func (t *tape) shortened() (code, message string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.why == nil {
		return "", ""
	}
	code = reason.SpoolFailed
	var key *refusedKey
	switch {
	case errors.Is(t.why, errSpoolFull):
		code = reason.SpoolFull
	case errors.Is(t.why, errTooLong):
		code = reason.TooLong
	case errors.As(t.why, &key):
		code = reason.KeyInvalid
	}
	return code, "the capture ended before its call: " + t.why.Error()
}

// bucket of the tape, with the credentials that the tenant has now or, if its config is deleted, had last.
func (t *tape) bucket() (*objectstore.Bucket, error) {
	t.renew(t.c.o.Tenants())
	return t.c.bucket(t.m.Tenant, t.m.Bucket, t.storage.Load())
}

// renew stores what the tenant's config says of the tape's bucket now. The operator renews temporary credentials
// during a call, and those of its beginning may expire before its end.
func (t *tape) renew(tenants *tenantconfig.Snapshot) {
	if now, ok := tenants.Tenant(t.m.Tenant); ok && now.Storage != nil && now.Storage.Bucket == t.m.Bucket {
		t.storage.Store(now.Storage)
	}
}

// renew has all tapes know the newest credentials, in case their tenants are withdrawn.
func (c *Captures) renew() {
	tenants := c.o.Tenants()
	c.mu.Lock()
	defer c.mu.Unlock()
	for s := range c.live {
		s.tape.renew(tenants)
	}
	for _, tapes := range []map[store.CaptureRef]*tape{c.waiting, c.busy} {
		for _, t := range tapes {
			t.renew(tenants)
		}
	}
}

var errNoStorage = errors.New("this pod does not know the tenant's bucket: it captures no more, or is gone")

func (c *Captures) bucket(tenant, name string, s *tenantconfig.Storage) (*objectstore.Bucket, error) {
	if t, ok := c.o.Tenants().Tenant(tenant); ok && t.Storage != nil && (s == nil || t.Storage.Bucket == name) {
		s = t.Storage
	}
	if s == nil {
		return nil, errNoStorage
	}
	config := s.Config()
	config.Bucket = name
	return objectstore.New(config, c.transport)
}

// dependency is what the breakers call a bucket, as everywhere.
const dependency = "s3"

// request bounds one request of the tenant's bucket, and refuses it while the bucket has failed several times in a row.
func (c *Captures) request(ctx context.Context, tenant string, f func(context.Context) error) error {
	return c.o.Breakers.Do(ctx, tenant, dependency, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, c.o.RequestWithin)
		defer cancel()
		return f(ctx)
	})
}

// request is one of the tape's bucket.
func (t *tape) request(ctx context.Context, f func(context.Context) error) error {
	return t.c.request(ctx, t.m.Tenant, f)
}

// ensureRow has the row written, before the bucket has anything.
func (t *tape) ensureRow(ctx context.Context) error {
	if _, known := t.c.o.Tenants().Tenant(t.m.Tenant); t.checked && known {
		return nil // of a tenant that is gone the rows may be gone too, and what came to the bucket then would stay there
	}
	if !t.m.Rowed {
		if err := t.c.o.Store.BeginCapture(ctx, t.m.row(t.c.o.Pod)); err != nil {
			return fmt.Errorf("keep the capture's row: %w", err)
		}
		t.m.Rowed = true
		_ = t.save() // without it the row is asked for again
	}
	// Of a process before this one: another pod may have it by now.
	if _, err := t.c.o.Store.OpenCapture(ctx, t.m.ref(), t.c.o.Pod); errors.Is(err, store.ErrNotFound) {
		return errLost
	} else if err != nil {
		return fmt.Errorf("look for the capture's row: %w", err)
	}
	t.rowed.Store(true)
	t.checked = true
	return nil
}
