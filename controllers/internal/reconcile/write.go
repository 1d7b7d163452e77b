package reconcile

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/api/equality"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Owner is one writer's part of a status.
type Owner struct {
	// Name of the controller.
	Name string
	// Conditions are the types that it sets and removes.
	Conditions []string
	// Adds are types that it only adds where they do not exist. Another writer owns them.
	Adds []string
	// Fields are its other fields of the status, by their JSON names.
	Fields []string
}

// Writer writes an owner's part of the status of objects.
type Writer struct {
	Client client.Client
	Owner  Owner
}

// Write writes the changes between two versions of an object's status, if there are any, and reports whether it wrote
// them. The API server rejects them with a conflict if the object has changed since before was read: a merge patch
// replaces all conditions, so old ones of other writers would come back. An object that does not exist is not an error.
// The answer of the API server replaces now.
func (w Writer) Write(ctx context.Context, before, now Object) (written bool, err error) {
	return w.patch(ctx, before, now, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
}

// WriteFields writes changes of fields, whatever other writers have changed meanwhile. It writes no conditions.
func (w Writer) WriteFields(ctx context.Context, before, now Object) (written bool, err error) {
	if !equality.Semantic.DeepEqual(before.GetConditions(), now.GetConditions()) {
		return false, fmt.Errorf("%s changes conditions without a lock: use Write", w.Owner.Name)
	}
	return w.patch(ctx, before, now, client.MergeFrom(before))
}

func (w Writer) patch(ctx context.Context, before, now Object, patch client.Patch) (written bool, err error) {
	data, err := patch.Data(now)
	if err != nil {
		return false, err
	}
	var change struct {
		Status map[string]json.RawMessage `json:"status"`
	}
	if err := json.Unmarshal(data, &change); err != nil {
		return false, err
	}
	if len(change.Status) == 0 {
		return false, nil
	}
	if err := w.Owner.check(change.Status, before.GetConditions(), now.GetConditions()); err != nil {
		return false, err
	}
	err = w.Client.Status().Patch(ctx, now, client.RawPatch(types.MergePatchType, data))
	return err == nil, client.IgnoreNotFound(err)
}

// check returns an error if a change of the status is another writer's.
func (o Owner) check(status map[string]json.RawMessage, was, is []metav1.Condition) error {
	for field := range status {
		if field != "conditions" && !slices.Contains(o.Fields, field) {
			return fmt.Errorf("%s has changed status.%s, which it does not own; see owners.go of this package",
				o.Name, field)
		}
	}
	for _, c := range slices.Concat(was, is) {
		before := apimeta.FindStatusCondition(was, c.Type)
		now := apimeta.FindStatusCondition(is, c.Type)
		added := before == nil && slices.Contains(o.Adds, c.Type)
		if added || slices.Contains(o.Conditions, c.Type) || equality.Semantic.DeepEqual(before, now) {
			continue
		}
		return fmt.Errorf("%s has changed the condition %s, which it does not own; see owners.go of this package",
			o.Name, c.Type)
	}
	return nil
}
