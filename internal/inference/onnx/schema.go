package onnx

// The tables below are the message types of onnx.proto at IR version 13: all
// that the gate knows of the file format. A field that is not here is refused.

// messageID names a message type; it indexes messages.
type messageID uint8

const (
	modelMessage messageID = iota
	graphMessage
	nodeMessage
	attributeMessage
	tensorMessage
	sparseMessage
	valueMessage
	typeMessage
	tensorTypeMessage
	elementTypeMessage
	mapTypeMessage
	opaqueTypeMessage
	shapeMessage
	dimMessage
	opsetMessage
	functionMessage
	entryMessage
	annotationMessage
	refusedMessage
	messageCount
)

// Field numbers that the checks read, by message.
const (
	modelIR, modelProducer, modelGraph, modelOpset    = 1, 2, 7, 8
	modelMetadata, modelTraining, modelFunction       = 14, 20, 25
	graphNode, graphInitializer, graphInput           = 1, 5, 11
	graphOutput, graphValue, graphSparse              = 12, 13, 15
	nodeInput, nodeOutput, nodeName, nodeOp           = 1, 2, 3, 4
	nodeAttribute, nodeDomain, nodeOverload           = 5, 7, 8
	attributeName, attributeType, attributeRef        = 1, 20, 21
	attributeFloat, attributeInt, attributeTensor     = 2, 3, 5
	attributeGraph, attributeFloats, attributeInts    = 6, 7, 8
	attributeTensors, attributeGraphs                 = 10, 11
	attributeSparse, attributeSparses                 = 22, 23
	tensorDims, tensorType, tensorSegment             = 1, 2, 3
	tensorFloats, tensorInt32s, tensorStrings         = 4, 5, 6
	tensorInt64s, tensorName, tensorRaw               = 7, 8, 9
	tensorDoubles, tensorUint64s                      = 10, 11
	tensorExternal, tensorLocation                    = 13, 14
	sparseValues, sparseIndices, sparseDims           = 1, 2, 3
	valueName, valueType                              = 1, 2
	typeTensor, typeSequence, typeMap, typeDenotation = 1, 4, 5, 6
	typeOpaque, typeSparse, typeOptional              = 7, 8, 9
	tensorTypeElement, tensorTypeShape                = 1, 2
	shapeDim, dimValue, dimParam                      = 1, 1, 2
	opsetDomain, opsetVersion                         = 1, 2
	functionName, functionInput, functionOutput       = 1, 4, 5
	functionNode, functionOpset, functionDomain       = 7, 9, 10
	functionDefault, functionValue, functionOverload  = 11, 12, 13
	entryKey, entryValue                              = 1, 2
)

// fieldKind is how a field is encoded and checked.
type fieldKind uint8

const (
	unknown fieldKind = iota
	varint
	fixed32
	fixed64
	name  // a string of valid UTF-8 and at most MaxNameBytes
	text  // a string of valid UTF-8
	blob  // any bytes
	nests // a message
)

type field struct {
	label string
	kind  fieldKind
	many  bool
	of    messageID // of a field that nests
}

type message struct {
	fields    []field // by number
	recursive bool    // a message that can hold itself: its nesting is limited
}

func sub(label string, of messageID) field { return field{label: label, kind: nests, of: of} }
func subs(label string, of messageID) field {
	return field{label: label, kind: nests, of: of, many: true}
}
func one(label string, kind fieldKind) field {
	return field{label: label, kind: kind}
}
func many(label string, kind fieldKind) field {
	return field{label: label, kind: kind, many: true}
}

var messages = [messageCount]message{
	modelMessage: {fields: []field{
		modelIR: one("ir_version", varint), modelProducer: one("producer_name", text), 3: one("producer_version", text),
		4: one("domain", name), 5: one("model_version", varint), 6: one("doc_string", blob),
		modelGraph: sub("graph", graphMessage), modelOpset: subs("opset_import", opsetMessage),
		modelMetadata: subs("metadata_props", entryMessage), modelTraining: subs("training_info", refusedMessage),
		modelFunction: subs("functions", functionMessage), 26: subs("configuration", refusedMessage),
	}},
	graphMessage: {recursive: true, fields: []field{
		graphNode: subs("node", nodeMessage), 2: one("name", name), graphInitializer: subs("initializer", tensorMessage),
		10: one("doc_string", blob), graphInput: subs("input", valueMessage), graphOutput: subs("output", valueMessage),
		graphValue: subs("value_info", valueMessage), 14: subs("quantization_annotation", annotationMessage),
		graphSparse: subs("sparse_initializer", sparseMessage), 16: subs("metadata_props", entryMessage),
	}},
	nodeMessage: {fields: []field{
		nodeInput: many("input", name), nodeOutput: many("output", name), nodeName: one("name", name),
		nodeOp: one("op_type", name), nodeAttribute: subs("attribute", attributeMessage), 6: one("doc_string", blob),
		nodeDomain: one("domain", name), nodeOverload: one("overload", name), 9: subs("metadata_props", entryMessage),
		10: subs("device_configurations", refusedMessage),
	}},
	attributeMessage: {fields: []field{
		attributeName: one("name", name), attributeFloat: one("f", fixed32), attributeInt: one("i", varint), 4: one("s", blob),
		attributeTensor: sub("t", tensorMessage), attributeGraph: sub("g", graphMessage),
		attributeFloats: many("floats", fixed32), attributeInts: many("ints", varint), 9: many("strings", blob),
		attributeTensors: subs("tensors", tensorMessage), attributeGraphs: subs("graphs", graphMessage),
		13: one("doc_string", blob), 14: sub("tp", typeMessage), 15: subs("type_protos", typeMessage),
		attributeType: one("type", varint), attributeRef: one("ref_attr_name", name),
		attributeSparse: sub("sparse_tensor", sparseMessage), attributeSparses: subs("sparse_tensors", sparseMessage),
	}},
	tensorMessage: {fields: []field{
		tensorDims: many("dims", varint), tensorType: one("data_type", varint), tensorSegment: sub("segment", refusedMessage),
		tensorFloats: many("float_data", fixed32), tensorInt32s: many("int32_data", varint),
		tensorStrings: many("string_data", blob), tensorInt64s: many("int64_data", varint), tensorName: one("name", name),
		tensorRaw: one("raw_data", blob), tensorDoubles: many("double_data", fixed64),
		tensorUint64s: many("uint64_data", varint), 12: one("doc_string", blob),
		tensorExternal: subs("external_data", entryMessage), tensorLocation: one("data_location", varint),
		16: subs("metadata_props", entryMessage),
	}},
	sparseMessage: {fields: []field{
		sparseValues: sub("values", tensorMessage), sparseIndices: sub("indices", tensorMessage), sparseDims: many("dims", varint),
	}},
	valueMessage: {fields: []field{
		valueName: one("name", name), valueType: sub("type", typeMessage), 3: one("doc_string", blob),
		4: subs("metadata_props", entryMessage),
	}},
	typeMessage: {recursive: true, fields: []field{
		typeTensor: sub("tensor_type", tensorTypeMessage), typeSequence: sub("sequence_type", elementTypeMessage),
		typeMap: sub("map_type", mapTypeMessage), typeDenotation: one("denotation", name),
		typeOpaque: sub("opaque_type", opaqueTypeMessage), typeSparse: sub("sparse_tensor_type", tensorTypeMessage),
		typeOptional: sub("optional_type", elementTypeMessage),
	}},
	tensorTypeMessage: {fields: []field{
		tensorTypeElement: one("elem_type", varint), tensorTypeShape: sub("shape", shapeMessage),
	}},
	elementTypeMessage: {fields: []field{1: sub("elem_type", typeMessage)}},
	mapTypeMessage:     {fields: []field{1: one("key_type", varint), 2: sub("value_type", typeMessage)}},
	opaqueTypeMessage:  {fields: []field{1: one("domain", name), 2: one("name", name)}},
	shapeMessage:       {fields: []field{shapeDim: subs("dim", dimMessage)}},
	dimMessage: {fields: []field{
		dimValue: one("dim_value", varint), dimParam: one("dim_param", name), 3: one("denotation", name),
	}},
	opsetMessage: {fields: []field{opsetDomain: one("domain", name), opsetVersion: one("version", varint)}},
	functionMessage: {fields: []field{
		functionName: one("name", name), functionInput: many("input", name), functionOutput: many("output", name),
		6: many("attribute", name), functionNode: subs("node", nodeMessage), 8: one("doc_string", blob),
		functionOpset: subs("opset_import", opsetMessage), functionDomain: one("domain", name),
		functionDefault: subs("attribute_proto", attributeMessage), functionValue: subs("value_info", valueMessage),
		functionOverload: one("overload", name), 14: subs("metadata_props", entryMessage),
	}},
	entryMessage:      {fields: []field{entryKey: one("key", text), entryValue: one("value", text)}},
	annotationMessage: {fields: []field{1: one("tensor_name", name), 2: subs("quant_parameter_tensor_names", entryMessage)}},
}
