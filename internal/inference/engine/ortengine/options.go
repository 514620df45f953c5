package ortengine

import (
	"runtime"
	"strings"

	ort "github.com/yalue/onnxruntime_go"

	"sluice/internal/inference/engine"
	"sluice/internal/inference/model"
	"sluice/internal/inference/tensor"
	"sluice/internal/platform/fault"
)

var elementTypes = map[tensor.Datatype]ort.TensorElementDataType{
	tensor.Bool: ort.TensorElementDataTypeBool, tensor.Bytes: ort.TensorElementDataTypeString,
	tensor.Uint8: ort.TensorElementDataTypeUint8, tensor.Uint16: ort.TensorElementDataTypeUint16,
	tensor.Uint32: ort.TensorElementDataTypeUint32, tensor.Uint64: ort.TensorElementDataTypeUint64,
	tensor.Int8: ort.TensorElementDataTypeInt8, tensor.Int16: ort.TensorElementDataTypeInt16,
	tensor.Int32: ort.TensorElementDataTypeInt32, tensor.Int64: ort.TensorElementDataTypeInt64,
	tensor.FP16: ort.TensorElementDataTypeFloat16, tensor.BF16: ort.TensorElementDataTypeBFloat16,
	tensor.FP32: ort.TensorElementDataTypeFloat, tensor.FP64: ort.TensorElementDataTypeDouble,
}

// checkPorts refuses what the wrapper cannot carry, by name.
func checkPorts(spec engine.Spec) error {
	if len(spec.Signature.Inputs) == 0 || len(spec.Signature.Outputs) == 0 {
		return fault.New(fault.Unsupported, "model %q has %d inputs and %d outputs; at least one of each is needed",
			spec.Name, len(spec.Signature.Inputs), len(spec.Signature.Outputs))
	}
	for _, p := range spec.Signature.Inputs {
		if len(p.Shape) == 0 {
			return fault.New(fault.Unsupported, "model %q: input %q is a scalar; give it at least one dimension", spec.Name, p.Name)
		}
	}
	resolver := newShapeResolver(spec.Signature)
	for i, p := range spec.Signature.Outputs {
		if p.Shape != nil && len(p.Shape) == 0 {
			return fault.New(fault.Unsupported, "model %q: output %q is a scalar; give it at least one dimension", spec.Name, p.Name)
		}
		if in := resolver.echoes[i]; in >= 0 && spec.Signature.Inputs[in].Datatype != p.Datatype {
			return fault.New(fault.Invalid, "model %q: output %q is the input of that name, but is declared as %s and not as %s",
				spec.Name, p.Name, p.Datatype, spec.Signature.Inputs[in].Datatype)
		}
		half := p.Datatype == tensor.FP16 || p.Datatype == tensor.BF16
		if half && !resolver.resolvable(i) {
			return fault.New(fault.Unsupported,
				"model %q: the shape %s of %s output %q does not follow from the inputs, which is not supported for this type; cast it to FP32 in the model",
				spec.Name, p.Shape, p.Datatype, p.Name)
		}
	}
	return nil
}

func names(ports []model.Port) []string {
	out := make([]string, len(ports))
	for i, p := range ports {
		out[i] = p.Name
	}
	return out
}

// sessionOptions translates a model's execution settings. Threads default to
// one within a run and never spin: concurrency comes from several runs at
// once, and spinning threads double the CPU per row of small batches.
func sessionOptions(x model.Execution) (*ort.SessionOptions, error) {
	options, err := ort.NewSessionOptions()
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "cannot make session options")
	}
	if err := applyOptions(options, x); err != nil {
		_ = options.Destroy()
		return nil, err
	}
	return options, nil
}

func applyOptions(o *ort.SessionOptions, x model.Execution) error {
	level, ok := optimisationLevels[x.Optimization]
	if !ok {
		return fault.New(fault.Invalid, "execution.optimization is %q; use disable, basic, extended or all", x.Optimization)
	}
	for _, err := range []error{
		o.SetIntraOpNumThreads(max(x.IntraThreads, 1)),
		o.SetInterOpNumThreads(max(x.InterThreads, 1)),
		o.SetCpuMemArena(!x.NoArena),
		o.SetMemPattern(!x.NoArena),
		o.SetGraphOptimizationLevel(level),
		o.SetLogSeverityLevel(ort.LoggingLevelFatal), // failures are returned
		o.AddSessionConfigEntry("session.intra_op.allow_spinning", "0"),
		o.AddSessionConfigEntry("session.inter_op.allow_spinning", "0"),
	} {
		if err != nil {
			return fault.Wrap(fault.Internal, err, "cannot apply execution settings")
		}
	}
	if x.InterThreads > 1 {
		if err := o.SetExecutionMode(ort.ExecutionModeParallel); err != nil {
			return fault.Wrap(fault.Internal, err, "cannot run nodes in parallel")
		}
	}
	return applyProvider(o, x.Provider)
}

var optimisationLevels = map[string]ort.GraphOptimizationLevel{
	"": ort.GraphOptimizationLevelEnableAll, "all": ort.GraphOptimizationLevelEnableAll,
	"extended": ort.GraphOptimizationLevelEnableExtended,
	"basic":    ort.GraphOptimizationLevelEnableBasic,
	"disable":  ort.GraphOptimizationLevelDisableAll,
}

// applyProvider selects the execution provider; the CPU stays as the fallback
// for nodes that the provider does not implement.
func applyProvider(o *ort.SessionOptions, provider string) error {
	var err error
	switch strings.ToLower(provider) {
	case "", "cpu":
		return nil
	case "cuda":
		err = appendCUDA(o)
	case "tensorrt":
		if err = appendTensorRT(o); err == nil {
			err = appendCUDA(o)
		}
	default:
		return fault.New(fault.Unsupported, "execution.provider is %q; use cpu, cuda or tensorrt", provider)
	}
	if err != nil {
		return fault.Wrap(fault.Unsupported, err,
			"the loaded ONNX Runtime library offers no %s execution provider on %s/%s: point SLUICE_ONNXRUNTIME at a GPU build, or set execution.provider to cpu",
			provider, runtime.GOOS, runtime.GOARCH)
	}
	return nil
}

func appendCUDA(o *ort.SessionOptions) error {
	p, err := ort.NewCUDAProviderOptions()
	if err != nil {
		return err
	}
	defer func() { _ = p.Destroy() }()
	return o.AppendExecutionProviderCUDA(p)
}

func appendTensorRT(o *ort.SessionOptions) error {
	p, err := ort.NewTensorRTProviderOptions()
	if err != nil {
		return err
	}
	defer func() { _ = p.Destroy() }()
	return o.AppendExecutionProviderTensorRT(p)
}
