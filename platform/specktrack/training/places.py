"""Types of settings that name a place or a model, absolute from birth.

Workers run in folders of their own, so a relative path means one below the folder in which the settings were read.
"""

from typing import Annotated

from pydantic import AfterValidator

from specktrack.models import zoo
from specktrack.storage import places

Place = Annotated[places.Place, AfterValidator(places.Names().absolute)]
"""A path, which becomes absolute, or an s3:// URI."""
ModelPlace = Annotated[zoo.ModelPlace, AfterValidator(places.Names(is_word=zoo.is_name).absolute)]
"""The name of a packaged model, or the path of a checkpoint, which becomes absolute."""
