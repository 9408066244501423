"""T5's encoder with a classifier: not in the library, whose T5 for classification runs the decoder too."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers import T5Config
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.models.t5.modeling_t5 import T5Stack


class T5EncoderForSequenceClassification(nn.Module):
    """Mean of the encoder's output over the tokens of a text, then one linear layer.

    Attention scores are not scaled, get a learnt bias for the distance between two tokens, and the norms
    divide by the root mean square: all of it the library's.

    Args:
        config: Sizes; ``num_labels`` is the width of the classifier.

    Shape:
        ``input_ids``, ``attention_mask`` ``[B, S]`` to ``.logits`` ``[B, num_labels]``.

    Reference:
        Raffel et al., JMLR 2020; Ni et al., Findings of ACL 2022 (the mean of T5's encoder as sentence embedding).
    """

    base_model_prefix = "encoder"

    def __init__(self, config: T5Config):
        super().__init__()
        self.encoder = T5Stack(config)
        self.dropout = nn.Dropout(config.classifier_dropout)
        width = config.num_labels
        assert width is not None  # but to its type
        self.classifier = nn.Linear(config.d_model, width)
        nn.init.normal_(self.classifier.weight, std=config.d_model**-0.5)
        nn.init.zeros_(self.classifier.bias)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, **_others: Any
    ) -> SequenceClassifierOutput:
        """Other inputs, such as the token types of some tokenizers, make no difference."""
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        if attention_mask is None:
            pooled = hidden.mean(1)
        else:
            mask = attention_mask[..., None].to(hidden.dtype)
            pooled = (hidden * mask).sum(1) / mask.sum(1)
        return SequenceClassifierOutput(logits=self.classifier(self.dropout(pooled)))
