package capture

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/minio/minio-go/v7"

	"github.com/caly-dev/caly/internal/objectstore"
	"github.com/caly-dev/caly/internal/reason"
	"github.com/caly-dev/caly/internal/testkit/eventually"
)

// TestUnbroken checks that a part that does not follow its neighbour ends what can be put together.
func TestUnbroken(t *testing.T) {
	parts := func(numbers ...int) (list []objectstore.Part) {
		for _, n := range numbers {
			list = append(list, objectstore.Part{Number: n})
		}
		return list
	}
	for name, tc := range map[string]struct{ parts, want []objectstore.Part }{
		"none":              {nil, nil},
		"all":               {parts(1, 2, 3), parts(1, 2, 3)},
		"a gap":             {parts(1, 2, 4, 5), parts(1, 2)},
		"without the first": {parts(2, 3), parts()},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(len(tc.want), len(unbroken(tc.parts))); diff != "" {
				t.Errorf("number of parts (-want +got):\n%s", diff)
			}
		})
	}
}

// TestPartReplacedByOthers replaces a part other than the first one, which is sent again at the end. A capture is not
// put together from fewer bytes than it has: it fails with a reason, since its audio exists nowhere else.
func TestPartReplacedByOthers(t *testing.T) {
	rig := newRig(t)
	pod := rig.pod("one", t.TempDir(), nil)
	call := pod.call(acme, "call")
	call.talk(2 * time.Minute)
	eventually.Within(patience).Holds(rig.t, "parts are in the bucket", func() bool { return rig.parts() == 2 })
	list, err := rig.s3.Core.ListMultipartUploads(t.Context(), rig.s3.Name, "", "", "", "", 10)
	if err != nil || len(list.Uploads) != 1 {
		t.Fatal(list, err)
	}
	upload := list.Uploads[0]
	const other = "another program's part"
	_, err = rig.s3.Core.PutObjectPart(
		t.Context(),
		rig.s3.Name,
		upload.Key,
		upload.UploadID,
		2,
		strings.NewReader(other),
		int64(len(other)),
		minio.PutObjectPartOptions{},
	)
	if err != nil {
		t.Fatal(err)
	}
	call.End()
	rig.settled(call.session, row{State: "failed", Code: reason.UploadLost})
	rig.s3.WantFinished(t)
	rig.spoolEmpty(pod)
}
