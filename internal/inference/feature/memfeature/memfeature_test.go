package memfeature

import (
	"testing"

	"sluice/internal/inference/feature"
	"sluice/internal/inference/feature/featuretest"
)

func TestContract(t *testing.T) {
	featuretest.Run(t, func(testing.TB) feature.Store { return new(Store) }, nil)
}
