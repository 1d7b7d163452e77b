package server

import (
	"context"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/caly-dev/caly/internal/bounded"
)

// unauthorized says why a request is not authenticated.
func unauthorized(why string) error { return apierrors.NewUnauthorized(bounded.Text(why, 500)) }

// unreviewed is the error of a review that the API server did not make. Its cause is the operator's, not the caller's.
func unreviewed(kind string, err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	status := apierrors.NewServiceUnavailable(fmt.Sprintf("the API server did not answer a %s of the operator: %s",
		kind, bounded.Text(err.Error(), 300)))
	status.ErrStatus.Details = &metav1.StatusDetails{RetryAfterSeconds: 2}
	return status
}
