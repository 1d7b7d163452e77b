package capture

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/caly-dev/caly/internal/exotel/agentstream"
	"github.com/caly-dev/caly/internal/objectstore"
	"github.com/caly-dev/caly/internal/resilience"
	"github.com/caly-dev/caly/internal/secret"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/testkit/eventually"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
	"github.com/caly-dev/caly/internal/testkit/s3test"
	"github.com/caly-dev/caly/internal/testkit/storetest"
	"github.com/caly-dev/caly/internal/wav"
)

const (
	acme     = "acme/support"
	globex   = "globex/sales"
	testRate = 24000
	// patience of a loaded machine.
	patience = 60 * time.Second
)

// rig is a bucket and a database, for pods that come and go.
type rig struct {
	t      *testing.T
	s3     *s3test.Bucket
	db     *storetest.DB
	config storageConfig
}

// storageConfig is what a pod knows of the bucket.
type storageConfig struct {
	Endpoint, Region, Bucket, Key, Secret, Token string
	Options                                      objectstore.Options
}

func (s storageConfig) tenants() *tenantconfig.Snapshot {
	one := func(id string) *tenantconfig.Tenant {
		return &tenantconfig.Tenant{
			ID:    id,
			UID:   id,
			Audio: &tenantconfig.Audio{Capture: &tenantconfig.Capture{KeyTemplate: "{{.CallSID}}/{{.RecordingID}}"}},
			Storage: &tenantconfig.Storage{
				Bucket:          s.Bucket,
				Endpoint:        s.Endpoint,
				Region:          s.Region,
				AccessKeyID:     secret.Sensitive(s.Key),
				SecretAccessKey: secret.Sensitive(s.Secret),
				SessionToken:    secret.Sensitive(s.Token),
				Options:         s.Options,
			},
		}
	}
	return tenantconfig.NewSnapshot(one(acme), one(globex))
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, s3: s3test.InBucket(t), db: storetest.New(t)}
	r.config = storageConfig{
		Endpoint: r.s3.Endpoint,
		Region:   r.s3.Region,
		Bucket:   r.s3.Name,
		Key:      r.s3.AccessKey,
		Secret:   r.s3.SecretKey,
	}
	return r
}

// pod is one process's captures.
type pod struct {
	*Captures
	t        *testing.T
	dir      string
	clock    atomic.Int64
	registry *prometheus.Registry
	stopped  sync.Once
	end      func()
}

// loopback allows the stores of tests.
var loopback = objectstore.Policy{AllowHTTP: true, AllowedCIDRs: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}

// fast are options of a pod that does at once what others do now and then.
func fast(config storageConfig, db Store, name, dir string) Options {
	tenants := config.tenants()
	return Options{
		Store:          db,
		Pod:            name,
		Dir:            dir,
		Tenants:        func() *tenantconfig.Snapshot { return tenants },
		Stores:         loopback,
		HeartbeatEvery: 500 * time.Millisecond,
		SweepEvery:     50 * time.Millisecond,
		Unseen:         4 * time.Second,
		RequestWithin:  20 * time.Second,
		StopWithin:     20 * time.Second,
		Breakers:       breakers(100*time.Millisecond, nil),
	}
}

// breakers that leave a bucket alone for so long.
func breakers(openFor time.Duration, reg prometheus.Registerer) *resilience.Registry {
	return resilience.NewRegistry(resilience.Options{OpenFor: openFor, Policy: resilience.Policy{MaxAttempts: 1}}, reg)
}

func (r *rig) pod(name, dir string, change func(*Options)) *pod {
	r.t.Helper()
	options := fast(r.config, r.db.Dataplane, name, dir)
	p := &pod{t: r.t, dir: dir, registry: prometheus.NewPedanticRegistry()}
	options.Registerer, options.now = p.registry, func() time.Duration { return time.Duration(p.clock.Load()) }
	options.Log = slog.New(slog.NewTextHandler(r.t.Output(), nil))
	if change != nil {
		change(&options)
	}
	var err error
	if p.Captures, err = New(options); err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = p.Run(ctx) }()
	p.end = func() { p.stopped.Do(func() { cancel(); <-done }) }
	r.t.Cleanup(p.end)
	return p
}

// call is a stream that is captured.
type call struct {
	*Capture
	session      string
	clock        *atomic.Int64
	caller, said []int16 // what either side said
}

func (p *pod) call(tenant, callSID string) *call {
	p.t.Helper()
	t, _ := p.o.Tenants().Tenant(tenant)
	c := &call{session: store.NewID(), clock: &p.clock}
	c.Capture = p.Begin(t, c.session, testRate)
	c.Started(agentstream.StartInfo{CallSID: callSID, StreamSID: "s", SampleRate: testRate})
	return c
}

// talk has both sides speak for a while, in frames of 20 ms, faster than time.
func (c *call) talk(d time.Duration) {
	const step = 20 * time.Millisecond
	samples := int(step * testRate / time.Second)
	for range int(d / step) {
		at := c.origin() + time.Duration(len(c.caller))*time.Second/testRate
		left := noise(len(c.caller), samples, 7)
		right := noise(len(c.said), samples, 13)
		c.Tap().Caller(payload(left), at)
		c.Tap().Agent(payload(right), at)
		c.caller, c.said = append(c.caller, left...), append(c.said, right...)
		c.clock.Store(max(c.clock.Load(), int64(at+step)))
		if c.behind() { // the disk has its time: a call has
			c.drain()
		}
	}
}

// drain waits until the recorder has written what the queue has now, or has ended. The first wake may stand in the
// channel after an earlier one, the look of the second one takes the entries, and the third one follows that look.
func (c *call) drain() {
	for range 3 {
		select {
		case c.queue.wake <- struct{}{}:
		case <-c.recorded:
			return
		}
	}
}

func (c *call) origin() time.Duration { return c.recorder.origin }

func (c *call) behind() bool {
	c.queue.mu.Lock()
	defer c.queue.mu.Unlock()
	return len(c.queue.in.text) > maxQueued/2 && !c.queue.closed
}

// noise is the samples from one on, which differ between neighbours and sides.
func noise(from, n, seed int) []int16 {
	out := make([]int16, n)
	for i := range out {
		x := uint32((from+i)*2654435761 + seed*40503)
		out[i] = int16(x >> 8)
	}
	return out
}

func payload(samples []int16) []byte {
	return base64.StdEncoding.AppendEncode(nil, pcm(samples))
}

func pcm(samples []int16) []byte {
	out := make([]byte, 0, 2*len(samples))
	for _, s := range samples {
		out = binary.LittleEndian.AppendUint16(out, uint16(s))
	}
	return out
}

// file is the one that a call should become, header and all; size tells what the header says, -1 what it is.
func (c *call) file(header []byte) []byte {
	data := make([]byte, 0, 4*len(c.caller))
	for i := range c.caller {
		data = binary.LittleEndian.AppendUint16(data, uint16(c.caller[i]))
		data = binary.LittleEndian.AppendUint16(data, uint16(c.said[i]))
	}
	if header == nil {
		header = wav.CallHeader(testRate, int64(len(data)))
	}
	return append(bytes.Clone(header), data...)
}

// row of a capture.
type row struct {
	State, Code string
	Size        int64
	Digest      bool
}

func (r *rig) row(session string) row {
	r.t.Helper()
	list := pgtest.Rows[row](
		r.t,
		r.db.Server,
		`SELECT state, error_code, size, sha256 <> '' FROM captures WHERE session = $1::uuid`,
		session,
	)
	if len(list) != 1 {
		return row{}
	}
	return list[0]
}

// settled waits for a capture's end and compares its row.
func (r *rig) settled(session string, want row) {
	r.t.Helper()
	eventually.Within(patience).Holds(r.t, "the capture has ended", func() bool {
		s := r.row(session).State
		return s == "uploaded" || s == "failed"
	})
	if diff := cmp.Diff(want, r.row(session)); diff != "" {
		r.t.Errorf("the row (-want +got):\n%s", diff)
	}
}

// object is what the bucket has of a call; nil if it has nothing.
func (r *rig) object(tenant, callSID, session string) []byte {
	r.t.Helper()
	return r.s3.Object(r.t, tenant+"/"+callSID+"/capture-"+session+".wav")
}

// same compares files, without writing megabytes of differences.
func (r *rig) same(got, want []byte) {
	r.t.Helper()
	if bytes.Equal(got, want) {
		return
	}
	n := 0
	for n < min(len(got), len(want)) && got[n] == want[n] {
		n++
	}
	r.t.Errorf(
		"the file has %d bytes, want %d, and differs from byte %d on; it begins % x, want % x",
		len(got),
		len(want),
		n,
		got[:min(len(got), 48)],
		want[:min(len(want), 48)],
	)
}

// parts that the bucket has of the one upload.
func (r *rig) parts() (n int) {
	list, err := r.s3.Core.ListMultipartUploads(context.Background(), r.s3.Name, "", "", "", "", 100)
	if err != nil || len(list.Uploads) == 0 {
		return 0
	}
	u := list.Uploads[0]
	parts, err := r.s3.Core.ListObjectParts(context.Background(), r.s3.Name, u.Key, u.UploadID, 0, 1000)
	if err != nil {
		return 0
	}
	return len(parts.ObjectParts)
}

// spoolEmpty waits until the pod's spool has no files and its budget no bytes in use.
func (r *rig) spoolEmpty(p *pod) {
	r.t.Helper()
	eventually.Within(patience).Holds(r.t, "the spool is empty", func() bool {
		entries, err := os.ReadDir(p.dir)
		return err == nil && len(entries) == 0 && p.budget.inUse() == 0
	})
}

// onDisk is how many bytes the directory has.
func onDisk(dir string) (n int64) {
	_ = filepath.Walk(dir, func(_ string, info os.FileInfo, err error) error {
		if err == nil && !info.IsDir() {
			n += info.Size()
		}
		return nil
	})
	return n
}

func (p *pod) outcome(o string) float64 {
	var out dto.Metric
	_ = p.m.outcomes[o].Write(&out)
	return out.GetCounter().GetValue()
}
