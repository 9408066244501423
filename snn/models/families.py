"""The families of text encoders, as facts: BERT, DistilBERT, RoBERTa, T5's encoder."""

from __future__ import annotations

from snn.models import reexpress
from snn.models.text import Conversion, TextFamily

_BERT_SIZES = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
    "type_vocab_size",
    "hidden_act",
    "layer_norm_eps",
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "classifier_dropout",
    "pad_token_id",
)
#: A table of row numbers that older files hold.
_POSITION_IDS = (r"re:(.*\.)?embeddings\.position_ids", None)

#: Pooler and classifier on the first token. Devlin et al., NAACL 2019; Wang et al., NeurIPS 2020 (MiniLM).
BERT_FAMILY = TextFamily(
    name="bert",
    model_type="bert",
    config="BertConfig",
    network="transformers:BertForSequenceClassification",
    spelling={name: name for name in _BERT_SIZES},
    prefix="bert",
    optional=("bert.pooler.",),
    token_types=True,
    renames=(
        (r"re:(.*LayerNorm)\.gamma", r"\1.weight"),
        (r"re:(.*LayerNorm)\.beta", r"\1.bias"),
        (r"re:cls\..*", None),  # heads of the pre-training
        _POSITION_IDS,
    ),
)

#: A hidden layer with ReLU and a classifier on the first token. Sanh et al., 2019.
DISTILBERT_FAMILY = TextFamily(
    name="distilbert",
    model_type="distilbert",
    config="DistilBertConfig",
    network="transformers:DistilBertForSequenceClassification",
    spelling={
        "vocab_size": "vocab_size",
        "hidden_size": "dim",
        "num_hidden_layers": "n_layers",
        "num_attention_heads": "n_heads",
        "intermediate_size": "hidden_dim",
        "max_position_embeddings": "max_position_embeddings",
        "hidden_act": "activation",
        "hidden_dropout_prob": "dropout",
        "attention_probs_dropout_prob": "attention_dropout",
        "classifier_dropout": "seq_classif_dropout",
        "pad_token_id": "pad_token_id",
    },
    defaults={"classifier_dropout": 0.2},
    prefix="distilbert",
    head=("pre_classifier.", "classifier."),
    renames=((r"re:vocab_(transform|layer_norm|projector)\..*", None), _POSITION_IDS),
    conversions=(Conversion(BERT_FAMILY, reexpress.distilbert_args, reexpress.distilbert_tensors),),
)

#: A hidden layer with tanh and a classifier on the first token. Liu et al., 2019.
ROBERTA_FAMILY = TextFamily(
    name="roberta",
    model_type="roberta",
    config="RobertaConfig",
    network="transformers:RobertaForSequenceClassification",
    spelling={name: name for name in _BERT_SIZES},
    defaults={
        "vocab_size": 50265,
        "max_position_embeddings": 514,
        "type_vocab_size": 1,
        "layer_norm_eps": 1e-5,
        "pad_token_id": 1,
    },
    prefix="roberta",
    output="classifier.out_proj",
    renames=((r"re:lm_head\..*", None), (r"re:(roberta\.)?pooler\..*", None), _POSITION_IDS),
    offset=True,
    conversions=(Conversion(BERT_FAMILY, reexpress.roberta_args, reexpress.roberta_tensors),),
)

#: A classifier on the mean over all tokens; the defaults are T5-small's. Raffel et al., JMLR 2020.
T5_ENCODER_FAMILY = TextFamily(
    name="t5_encoder",
    model_type="t5",
    config="T5Config",
    network="snn.models.t5:T5EncoderForSequenceClassification",
    spelling={
        "vocab_size": "vocab_size",
        "hidden_size": "d_model",
        "num_hidden_layers": "num_layers",
        "num_attention_heads": "num_heads",
        "head_size": "d_kv",
        "intermediate_size": "d_ff",
        "gated": "is_gated_act",
        "relative_attention_num_buckets": "relative_attention_num_buckets",
        "relative_attention_max_distance": "relative_attention_max_distance",
        "hidden_act": "dense_act_fn",
        "layer_norm_eps": "layer_norm_epsilon",
        "hidden_dropout_prob": "dropout_rate",
        "classifier_dropout": "classifier_dropout",
        "pad_token_id": "pad_token_id",
    },
    defaults={
        "vocab_size": 32128,
        "hidden_size": 512,
        "num_attention_heads": 8,
        "head_size": 64,
        "intermediate_size": 2048,
        "hidden_act": "relu",
        "layer_norm_eps": 1e-6,
    },
    settings={"is_encoder_decoder": False, "use_cache": False},
    prefix="encoder",
    renames=((r"re:(decoder|lm_head)\..*", None),),
    prepare=reexpress.t5_encoder_tensors,
)

BERT = BERT_FAMILY.architecture()
DISTILBERT = DISTILBERT_FAMILY.architecture()
ROBERTA = ROBERTA_FAMILY.architecture()
T5_ENCODER = T5_ENCODER_FAMILY.architecture()
