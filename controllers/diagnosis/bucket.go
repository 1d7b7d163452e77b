package diagnosis

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/doctor"
)

// rewriteKept is how long a bucket that keeps what a check writes is not written to again. The operator's own check waits
// as long.
const rewriteKept = 24 * time.Hour

// kept has the Tenants whose buckets keep what a check writes, with the time of that write, and those whose buckets are
// written to now: two checks would each find what the other wrote.
type kept struct {
	mu    sync.Mutex
	wrote map[string]time.Time
	busy  map[string]bool
}

// enter reports whether a Tenant's bucket may be checked. The check must leave then.
func (k *kept) enter(tenantID string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.busy[tenantID] {
		return false
	}
	if k.busy == nil {
		k.busy = map[string]bool{}
	}
	k.busy[tenantID] = true
	return true
}

// leave ends a check.
func (k *kept) leave(tenantID string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.busy, tenantID)
}

// lately reports whether the bucket of a Tenant keeps what a check wrote a short time ago.
func (k *kept) lately(tenantID string, now time.Time) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	at, found := k.wrote[tenantID]
	return found && now.Sub(at) < rewriteKept
}

// note keeps the time of such a write, and forgets the old ones.
func (k *kept) note(tenantID string, now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.wrote == nil {
		k.wrote = map[string]time.Time{}
	}
	maps.DeleteFunc(k.wrote, func(_ string, at time.Time) bool { return now.Sub(at) >= rewriteKept })
	k.wrote[tenantID] = now
}

// bucket does what upload pods do, with their credentials: it writes, reads and deletes a small object. A bucket that
// keeps what is deleted gets one a day, whatever the number of calls.
func (d *Diagnosis) bucket(ctx context.Context, tenant *v1alpha1.Tenant) []doctor.Finding {
	upload, err := d.uploadConfig(ctx, tenant)
	switch {
	case err != nil:
		return one(doctor.Warning, "the upload config cannot be read: "+err.Error(), "look at the operator's log")
	case upload == nil:
		return one(doctor.Skipped, "the Tenant has no upload config; its conditions say why", "")
	}
	if !d.kept.enter(tenant.ID()) {
		return one(doctor.Skipped, "another caller checks the bucket now", "run it again")
	}
	defer d.kept.leave(tenant.ID())
	begin := time.Now()
	write := !d.kept.lately(tenant.ID(), d.Now())
	found, err := d.Buckets.Probe(ctx, upload, write)
	if found.Kept != "" {
		d.kept.note(tenant.ID(), d.Now())
	}
	if err != nil {
		return one(doctor.Critical, fmt.Sprintf("bucket %s: %v", upload.Bucket, err),
			"see docs/runbooks/CalyUploadBucketFault.md")
	}
	took := time.Since(begin).Round(time.Millisecond)
	message := fmt.Sprintf("bucket %s: wrote, read and compared an object in %s", upload.Bucket, took)
	switch {
	case !write:
		return one(
			doctor.OK,
			fmt.Sprintf("bucket %s: listed objects in %s; it is not written to again today, since what "+
				"the last check wrote is kept", upload.Bucket, took),
			"",
		)
	case found.Kept != "":
		return one(doctor.OK, message+"; it is kept: "+found.Kept, "")
	}
	return one(doctor.OK, message+" and deleted it", "")
}
