package tenantapi

import (
	"context"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/caly-dev/caly/dataplane/api"
	"github.com/caly-dev/caly/dataplane/problem"
	"github.com/caly-dev/caly/internal/objectstore"
	"github.com/caly-dev/caly/internal/recording"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// linkLifetime is how long a link is good.
const linkLifetime = 5 * time.Minute

type linkOut struct {
	Body struct {
		URL       string    `json:"url" format:"uri"`
		ExpiresAt time.Time `json:"expiresAt"`
	}
}

func (h handlers) downloadRecording(ctx context.Context, in *recordingPath) (*linkOut, error) {
	recording, err := h.Store.RecordingByID(ctx, tenantOf(ctx), in.ID)
	if err != nil {
		return nil, found("recording", err)
	}
	t := api.TenantOf(ctx)
	if err := downloadable(t, &recording); err != nil {
		return nil, err
	}
	lifetime, err := lifetimeOf(t.Storage, h.Now())
	if err != nil {
		return nil, err
	}
	out := &linkOut{}
	// Before the link is made, whose clock has whole seconds: it is good for no less than is said.
	out.Body.ExpiresAt = h.Now().Add(lifetime).UTC().Truncate(time.Second)
	out.Body.URL, err = objectstore.PresignGet(t.Storage.Config(), recording.Key, lifetime)
	return out, err
}

// shortestLink is the least lifetime of a link that a person can use.
const shortestLink = 10 * time.Second

// lifetimeOf returns how long a link is valid. A link that was signed with temporary credentials is not valid after
// them.
func lifetimeOf(s *tenantconfig.Storage, now time.Time) (time.Duration, error) {
	if s.Temporary == nil {
		return linkLifetime, nil
	}
	left := s.Temporary.Expires.Sub(now).Truncate(time.Second)
	if left < shortestLink {
		return 0, problem.New(problem.Unavailable,
			"the credentials of the tenant's store have expired and are not renewed "+
				"yet: retry later").WithRetryAfter(time.Minute)
	}
	return min(linkLifetime, left), nil
}

// downloadable refuses what no link may be made for.
func downloadable(t *tenantconfig.Tenant, r *store.Recording) error {
	conflict := func(format string, args ...any) error {
		return problem.New(problem.Conflict, fmt.Sprintf(format, args...))
	}
	switch {
	case r.State == store.StateFailed:
		return conflict("the recording could not be uploaded, so there is nothing to download: see its errorCode")
	case r.State != store.StateUploaded:
		return conflict("the recording is not uploaded yet: ask again later")
	case t.Storage == nil:
		return conflict("the tenant's store is not known to this service: ask the platform")
	case r.Bucket != t.Storage.Bucket:
		return conflict(
			"the recording lies in the bucket %q, which the tenant uses no more: ask the platform for it", r.Bucket,
		)
	case t.Storage.NoLinks:
		return conflict("a link to the tenant's store would use plain http, which the platform does not allow: " +
			"ask the platform to give the Tenant an https URL as spec.recordings.publicEndpoint, or to set " +
			"storage.allowHTTP")
	case !within(t.ID, r.Key):
		// Upload pods write the row, each for its own tenant alone; where tenants share a bucket, the key is what keeps them apart.
		return problem.New(problem.Internal, "internal error; give the platform the requestId").
			WithCause(fmt.Errorf("recording %s of %s has a key outside of the tenant's prefix", r.ID, t.ID))
	}
	return nil
}

// within tells whether a key is below the tenant's prefix, without climbing out again.
func within(tenantID, key string) bool {
	prefix := recording.KeyPrefix(tenantID)
	return strings.HasPrefix(key, prefix) && len(key) > len(prefix) && path.Clean("/"+key) == "/"+key
}
