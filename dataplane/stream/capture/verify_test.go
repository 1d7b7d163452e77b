package capture

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caly-dev/caly/internal/objectstore"
	"github.com/caly-dev/caly/internal/reason"
	"github.com/caly-dev/caly/internal/testkit/eventually"
	"github.com/caly-dev/caly/internal/testkit/s3test"
)

// threeParts is a call whose second part leaves the disk while it runs.
const threeParts = 130 * time.Second

// none is a store that verifies nothing, and whose ETags are not digests.
func none(rules s3test.Rules) s3test.Rules {
	rules.NoSHA256 = true
	rules.NoCRC64 = true
	rules.BlindMD5 = true
	rules.OpaqueETags = true
	rules.OpaquePartETags = true
	return rules
}

// onPart has a fault befall the first requests that send a part, or those of any part with number "".
func onPart(number string, times int32, fault s3test.Fault) func(*http.Request) s3test.Fault {
	var met atomic.Int32
	return func(q *http.Request) s3test.Fault {
		if isPart(q) && strings.Contains(q.URL.RawQuery, "partNumber="+number) && met.Add(1) <= times {
			return fault
		}
		return s3test.Pass
	}
}

// TestPartsAreReadBack has a part be changed on its way to a bucket that verifies nothing. The capture is sent again if
// all of it is still on the disk. Else it fails, and nothing of it stays in the bucket.
func TestPartsAreReadBack(t *testing.T) {
	for name, tc := range map[string]struct {
		rules  s3test.Rules
		length time.Duration
		part   string
		times  int32
		want   row
	}{
		"unchanged": {none(s3test.Rules{}), threeParts, "2", 0, row{State: "uploaded", Digest: true}},
		"unchanged, ranges ignored": {none(s3test.Rules{NoRange: true}), threeParts, "2", 0,
			row{State: "uploaded", Digest: true}},
		"all is on the disk": {none(s3test.Rules{}), longCall, "2", 1, row{State: "uploaded", Digest: true}},
		"the beginning":      {none(s3test.Rules{}), longCall, "1", 2, row{State: "uploaded", Digest: true}},
		"a part is on no disk": {none(s3test.Rules{}), threeParts, "2", 1,
			row{State: "failed", Code: reason.StorageMismatch}},
		"it must not be deleted": {none(s3test.Rules{NoDelete: true}), threeParts, "2", 1,
			row{State: "failed", Code: reason.StorageMismatch}},
	} {
		t.Run(name, func(t *testing.T) {
			rig := newRig(t)
			strict := rig.strict(tc.rules, objectstore.Options{Checksum: objectstore.ChecksumNone})
			rig.config.Endpoint = s3test.NewProxy(t, &s3test.Server{Endpoint: strict.URL},
				onPart(tc.part, tc.times, s3test.Corrupt)).URL
			pod := rig.pod("one", t.TempDir(), nil)
			call := pod.call(acme, "long")
			call.talk(tc.length)
			call.End()
			want := call.file(nil)
			if tc.want.State == "uploaded" {
				tc.want.Size = int64(len(want))
			}
			rig.settled(call.session, tc.want)
			strictObject, found := strict.Object(keyOf(call, "long"))
			switch {
			case tc.want.State == "uploaded":
				rig.same(strictObject.Data, want)
				rig.digest(call.session, want)
			case found != tc.rules.NoDelete:
				t.Errorf("the changed object is there: %v", found)
			}
			if n := strict.Uploads(); n != 0 {
				t.Errorf("%d uploads in parts are left", n)
			}
			rig.spoolEmpty(pod)
		})
	}
}

// digest checks the digest in a row.
func (r *rig) digest(session string, data []byte) {
	r.t.Helper()
	want := sha256.Sum256(data)
	n := r.db.Number(r.t, "SELECT count(*) FROM captures WHERE session = '"+session+"'::uuid AND sha256 = '"+
		hex.EncodeToString(want[:])+"'")
	if n != 1 {
		r.t.Error("the row has another digest than the file")
	}
}

// TestReadBackGoesOn has reads fail for a while. Each part is read once, over all tries.
func TestReadBackGoesOn(t *testing.T) {
	rig := newRig(t)
	strict := rig.strict(none(s3test.Rules{}), objectstore.Options{Checksum: objectstore.ChecksumNone})
	var asked, passed atomic.Int32
	rig.config.Endpoint = s3test.NewProxy(t, &s3test.Server{Endpoint: strict.URL}, func(q *http.Request) s3test.Fault {
		if q.Method != http.MethodGet || q.URL.RawQuery != "" {
			return s3test.Pass
		}
		if asked.Add(1)%2 == 1 {
			return s3test.Refuse
		}
		passed.Add(1)
		return s3test.Pass
	}).URL
	pod := rig.pod("one", t.TempDir(), func(o *Options) { o.FinishWithin = 200 * time.Millisecond })
	call := pod.call(acme, "long")
	call.talk(threeParts)
	call.End()
	want := call.file(nil)
	rig.settled(call.session, row{State: "uploaded", Size: int64(len(want)), Digest: true})
	rig.digest(call.session, want)
	if passed.Load() != 3 {
		t.Errorf("%d parts were read, want each of 3 once", passed.Load())
	}
}

// TestReadBackAfterRestart ends the pod before its capture was read back. The next process of the pod has the digests
// of the parts that are no longer on the disk.
func TestReadBackAfterRestart(t *testing.T) {
	for name, tc := range map[string]struct {
		times    int32
		noDigest bool
		want     row
	}{
		"unchanged":             {0, false, row{State: "uploaded", Digest: true}},
		"changed":               {1, false, row{State: "failed", Code: reason.StorageMismatch}},
		"the digests were lost": {0, true, row{State: "uploaded"}},
	} {
		t.Run(name, func(t *testing.T) {
			rig := newRig(t)
			strict := rig.strict(none(s3test.Rules{}), objectstore.Options{Checksum: objectstore.ChecksumNone})
			var down atomic.Bool
			down.Store(true)
			corrupt := onPart("2", tc.times, s3test.Corrupt)
			var reads atomic.Int32
			server := &s3test.Server{Endpoint: strict.URL}
			rig.config.Endpoint = s3test.NewProxy(t, server, func(q *http.Request) s3test.Fault {
				if down.Load() && q.Method == http.MethodGet && q.URL.RawQuery == "" {
					return s3test.Refuse
				}
				if isRead(q) {
					reads.Add(1)
				}
				return corrupt(q)
			}).URL
			dir := t.TempDir()
			pod := rig.pod("one", dir, func(o *Options) { o.FinishWithin = 100 * time.Millisecond })
			call := pod.call(acme, "long")
			call.talk(threeParts)
			call.End()
			eventually.Within(patience).Holds(rig.t, "it waits", func() bool {
				_, waiting := pod.count()
				_, found := strict.Object(keyOf(call, "long"))
				return waiting == 1 && found
			})
			pod.end()
			if tc.noDigest {
				if err := os.Remove(pod.dir + "/" + spoolName(call.tape.m.ID) + "/" + sumsName); err != nil {
					t.Fatal(err)
				}
			}
			down.Store(false)
			pod = rig.pod("one", dir, nil)
			want := call.file(nil)
			if tc.want.State == "uploaded" {
				tc.want.Size = int64(len(want))
			}
			rig.settled(call.session, tc.want)
			rig.spoolEmpty(pod)
			if tc.noDigest {
				rig.unverified(pod, call.session)
				if n := reads.Load(); n != 2 {
					t.Errorf("%d parts were read, want the 2 whose digests are known", n)
				}
			}
		})
	}
}

// unverified checks that the row and the metrics say that a capture was not compared in full.
func (r *rig) unverified(p *pod, session string) {
	r.t.Helper()
	n := r.db.Number(r.t, "SELECT count(*) FROM captures WHERE session = '"+session+
		"'::uuid AND error LIKE '%only the length was compared'")
	if n != 1 {
		r.t.Error("the row does not say that only the length was compared")
	}
	if got := p.outcome(outcomeUnverified); got != 1 {
		r.t.Errorf("%v captures count as unverified, want 1", got)
	}
}
