package onnx

import (
	"strings"

	"sluice/internal/inference/tensor"
)

// Limits bounds what Inspect accepts. Start from DefaultLimits and change
// what has to differ; a zero limit allows nothing.
type Limits struct {
	MaxBytes      int64 // the file
	MaxDepth      int   // nesting of subgraphs, of local function calls, and of types
	MaxNodes      int   // nodes with those of subgraphs, local functions expanded
	MaxTensors    int   // initializers and tensors in attributes
	MaxAttributes int   // attributes of all nodes
	MaxValues     int   // declared inputs, outputs and intermediate values
	MaxFunctions  int   // model-local functions
	MaxEntries    int   // strings, dimensions and other small repeated parts
	MaxNameBytes  int   // one name
	MaxMetadata   int   // bytes of the model's metadata, together
	MaxPorts      int   // inputs, and outputs, of the model
	MaxDims       int   // dimensions of one tensor; at most tensor.MaxDims
	MaxElements   int64 // elements of a tensor that the file declares or asks for without holding its data
	MinIR, MaxIR  int64 // version of the file format
	// Domains are the operator sets that nodes may use, by name; the standard
	// one is "ai.onnx".
	Domains map[string]Domain
}

// Domain is the part of an operator set that is allowed.
type Domain struct {
	MinOpset, MaxOpset int64
	Operators          map[string]bool
}

// DefaultLimits returns limits that pass the models that common exporters
// write and ONNX Runtime 1.30 can load. The counts keep what the runtime's
// parser makes of a file (a message of two bytes may become one of two
// hundred) within some hundred megabytes beside the weights.
func DefaultLimits() Limits {
	return Limits{
		MaxBytes:      1<<31 - 1, // protobuf's own limit
		MaxDepth:      16,
		MaxNodes:      100_000,
		MaxTensors:    50_000,
		MaxAttributes: 500_000,
		MaxValues:     200_000,
		MaxFunctions:  2_000,
		MaxEntries:    4_000_000,
		MaxNameBytes:  2 << 10,
		MaxMetadata:   4 << 20,
		MaxPorts:      512,
		MaxDims:       tensor.MaxDims,
		MaxElements:   1 << 28,
		MinIR:         3,
		MaxIR:         13,
		Domains: map[string]Domain{
			standardDomain:  {MinOpset: 7, MaxOpset: 26, Operators: words(standardOperators)},
			"ai.onnx.ml":    {MinOpset: 1, MaxOpset: 5, Operators: words(mlOperators)},
			"com.microsoft": {MinOpset: 1, MaxOpset: 1, Operators: words(microsoftOperators)},
		},
	}
}

func words(list string) map[string]bool {
	set := map[string]bool{}
	for w := range strings.FieldsSeq(list) {
		set[w] = true
	}
	return set
}

// standardDomain is the full name of the domain that files also write as "".
const standardDomain = "ai.onnx"

// The operators of the standard domain, with those that later versions
// dropped and those that ONNX Runtime adds to it. Left out are ImageDecoder
// (an image parser is too much surface) and the losses of training.
const standardOperators = `
Abs Acos Acosh Add AffineGrid And ArgMax ArgMin Asin Asinh Atan Atanh Attention AveragePool
BatchNormalization Bernoulli BitCast BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor BlackmanWindow
Cast CastLike Ceil Celu CenterCropPad Clip Col2Im Compress Concat ConcatFromSequence Constant
ConstantOfShape Conv ConvInteger ConvTranspose Cos Cosh CumProd CumSum
DFT DeformConv DepthToSpace DequantizeLinear Det Div Dropout DynamicQuantizeLinear
Einsum Elu Equal Erf Exp Expand EyeLike Flatten Floor
GRU Gather GatherElements GatherND Gelu Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool
Greater GreaterOrEqual GridSample GroupNormalization
HammingWindow HannWindow HardSigmoid HardSwish Hardmax
Identity If InstanceNormalization IsInf IsNaN
LRN LSTM LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax Loop LpNormalization LpPool
MatMul MatMulInteger Max MaxPool MaxRoiPool MaxUnpool Mean MeanVarianceNormalization MelWeightMatrix
Min Mish Mod Mul Multinomial Neg NonMaxSuppression NonZero Not
OneHot Optional OptionalGetElement OptionalHasElement Or
PRelu Pad Pow QLinearConv QLinearMatMul QuantizeLinear
RMSNormalization RNN RandomNormal RandomNormalLike RandomUniform RandomUniformLike Range Reciprocal
ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum
ReduceSumSquare RegexFullMatch Relu Reshape Resize ReverseSequence RoiAlign RotaryEmbedding Round
STFT Scan Scatter ScatterElements ScatterND Selu SequenceAt SequenceConstruct SequenceEmpty
SequenceErase SequenceInsert SequenceLength SequenceMap Shape Shrink Sigmoid Sign Sin Sinh Size Slice
Softmax Softplus Softsign SpaceToDepth Split SplitToSequence Sqrt Squeeze StringConcat
StringNormalizer StringSplit Sub Sum Swish
Tan Tanh TensorScatter TfIdfVectorizer ThresholdedRelu Tile TopK Transpose Trilu
Unique Unsqueeze Upsample Where Xor SimplifiedLayerNormalization`

const mlOperators = `
ArrayFeatureExtractor Binarizer CastMap CategoryMapper DictVectorizer FeatureVectorizer Imputer
LabelEncoder LinearClassifier LinearRegressor Normalizer OneHotEncoder SVMClassifier SVMRegressor
Scaler TreeEnsemble TreeEnsembleClassifier TreeEnsembleRegressor ZipMap`

// The contributed operators that optimizers and quantizers put into models.
// None of them reads files, loads code or carries a compiled blob, as
// EPContext does.
const microsoftOperators = `
Attention BiasAdd BiasGelu BiasSoftmax BiasSplitGelu DequantizeLinear DynamicQuantizeLSTM
DynamicQuantizeMatMul EmbedLayerNormalization FastGelu FusedConv FusedGemm FusedMatMul Gelu
GemmFastGelu GroupNorm GroupQueryAttention Inverse MatMulInteger16 MatMulIntegerToFloat MatMulNBits
MultiHeadAttention NhwcMaxPool QAttention QEmbedLayerNormalization QGemm QLinearAdd
QLinearAveragePool QLinearConcat QLinearConv QLinearGlobalAveragePool QLinearLeakyRelu QLinearMul
QLinearReduceMean QLinearSigmoid QLinearSoftmax QLinearWhere QuantizeLinear QuickGelu
RotaryEmbedding SkipLayerNormalization SkipSimplifiedLayerNormalization TransposeMatMul`
